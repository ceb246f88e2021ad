"""What the devices were like before, during and after the runs; what they don't tell, with their reasons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgepack.records import DeviceState, Environment
from edgepack.report.details import Detail
from edgepack.report.panels import Place, by_place
from edgepack.report.rows import Row
from edgepack.report.text import seconds_of

POINTS_MAX = 240
PHASES = ("before", "during", "after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The smallest and the largest value of a field over a phase of all runs, or its different words; None where nothing was told."""

    low: float | None = None
    high: float | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of the state: its range in every phase, and why it is missing where it is."""

    name: str
    title: str
    unit: str
    phases: tuple[Range, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A number over time: (minutes since the first run began, value, phase)."""

    name: str
    title: str
    unit: str
    points: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePanel:
    """One device's facts and states over `runs` runs."""

    place: Place
    environment: Environment
    fields: tuple[Field, ...]
    traces: tuple[Trace, ...]
    runs: int


def _mean_mhz(state: DeviceState) -> float | None:
    return None if not state.frequencies_mhz else sum(state.frequencies_mhz) / len(state.frequencies_mhz)


# Name in DeviceState, as a reader says it, unit, and how it is read.
_NUMBERS: tuple[tuple[str, str, str, Callable[[DeviceState], float | None]], ...] = (
    ("frequencies_mhz", "CPU frequency, mean of the cores", "MHz", _mean_mhz),
    ("temperature_c", "Temperature", "°C", lambda state: state.temperature_c),
    ("load_average", "Load average, 1 min", "", lambda state: state.load_average),
    ("free_memory_bytes", "Free memory", "bytes", lambda state: state.free_memory_bytes),
    ("throttle_count", "Throttled since boot", "times", lambda state: state.throttle_count),
    ("battery_percent", "Battery", "%", lambda state: state.battery_percent),
    ("thermal_status", "Android thermal status", "", lambda state: state.thermal_status),
)
_WORDS: tuple[tuple[str, str, Callable[[DeviceState], str | None]], ...] = (
    ("governor", "Governor", lambda state: state.governor),
    ("throttled", "Throttled now", lambda state: _yes(state.throttled)),
    ("charging", "Charging", lambda state: _yes(state.charging)),
)
_TRACED = ("frequencies_mhz", "temperature_c", "load_average")


def states(rows: Sequence[Row], details: Sequence[Detail]) -> tuple[StatePanel, ...]:
    """A panel for each device with whole runs."""
    found = []
    for place, group in by_place(rows).items():
        known = {row.id for row in group}
        runs = [one for one in details if one.row.id in known]
        if runs:
            found.append(_panel(place, runs))
    return tuple(found)


def _panel(place: Place, runs: Sequence[Detail]) -> StatePanel:
    by_phase = {
        "before": [one.report.before for one in runs],
        "during": [state for one in runs for state in one.report.during],
        "after": [one.report.after for one in runs],
    }
    every = [state for states in by_phase.values() for state in states]
    words = [_word_field(name, title, read, by_phase, every) for name, title, read in _WORDS]
    numbers = [_number_field(name, title, unit, read, by_phase, every) for name, title, unit, read in _NUMBERS]
    traces = [_trace(name, title, unit, read, runs) for name, title, unit, read in _NUMBERS if name in _TRACED]
    return StatePanel(
        place=place,
        environment=runs[-1].report.environment,
        fields=(*numbers, *words),
        traces=tuple(trace for trace in traces if len(trace.points) > 1),
        runs=len(runs),
    )


def _number_field(
    name: str,
    title: str,
    unit: str,
    read: Callable[[DeviceState], float | None],
    by_phase: dict[str, list[DeviceState]],
    every: Sequence[DeviceState],
) -> Field:
    phases = []
    for phase in PHASES:
        values = [
            value for state in by_phase[phase] if name not in state.missing and (value := read(state)) is not None
        ]
        phases.append(Range(low=min(values), high=max(values)) if values else Range())
    return Field(name=name, title=title, unit=unit, phases=tuple(phases), missing=_missing(name, every))


def _word_field(
    name: str,
    title: str,
    read: Callable[[DeviceState], str | None],
    by_phase: dict[str, list[DeviceState]],
    every: Sequence[DeviceState],
) -> Field:
    phases = []
    for phase in PHASES:
        phases.append(Range(words=tuple(sorted({word for state in by_phase[phase] if (word := read(state))}))))
    return Field(name=name, title=title, unit="", phases=tuple(phases), missing=_missing(name, every))


def _missing(name: str, every: Sequence[DeviceState]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(state.missing[name] for state in every if name in state.missing))


def _trace(
    name: str, title: str, unit: str, read: Callable[[DeviceState], float | None], runs: Sequence[Detail]
) -> Trace:
    begun = min(seconds_of(one.run.started_at) for one in runs)
    points: list[tuple[float, float, str]] = []
    for one in runs:
        report = one.report
        offset_s = (seconds_of(one.run.started_at) - begun).total_seconds()
        phased = [("before", report.before), *(("during", state) for state in report.during), ("after", report.after)]
        for phase, state in phased:
            if name not in state.missing and (value := read(state)) is not None:
                points.append(((offset_s + state.at_s) / 60, float(value), phase))
    points.sort()
    if len(points) > POINTS_MAX:
        step = (len(points) - 1) / (POINTS_MAX - 1)
        points = [points[round(place * step)] for place in range(POINTS_MAX)]
    return Trace(name=name, title=title, unit=unit, points=tuple(points))


def _yes(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"
