"""Rows of the report: every run of one model on one device under one set of conditions, and what is computed over them.

A row is read from summaries alone, in one pass, so that hundreds of thousands of runs take seconds. docs/report.md says what each number means.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgepack.core.digest import canonical_json
from edgepack.records import METRICS, Conditions, DeviceName, Environment, RunSummary, Subject
from edgepack.stats import Interval, binomial_ci, mean_ci

Kind = Literal["device", "emulated", "instructions"]
KINDS: Mapping[Kind, str] = {
    "device": "latency_p50_ms",
    "emulated": "emulated_p50_ms",
    "instructions": "guest_instructions",
}
# How the runs of a row become one number; every other metric is the median over its runs.
LARGEST = ("peak_memory_bytes",)
SAME = ("size_bytes", "accuracy")
EXCLUDED_SHOWN_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A metric of a row: the value over `runs` runs, its 95 % interval, and the smallest and largest run. `why_none` where it has no value."""

    value: float | None
    ci95: Interval | None = None
    low: float | None = None
    high: float | None = None
    runs: int = 0
    why_none: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model on one device under one set of conditions. `bench` is set where several benches stand side by side."""

    id: str
    kind: Kind
    device: DeviceName
    subject: Subject
    conditions: Conditions
    environment: Environment
    bench: str | None
    benches: int
    latest_bench: str
    runs: int
    excluded: int
    first_at: str
    last_at: str
    numbers: Mapping[str, Number]
    accuracy_samples: int | None
    run_values: tuple[float, ...]

    @property
    def metric(self) -> str:
        """The metric of time that this kind of device has."""
        return KINDS[self.kind]

    @property
    def speed(self) -> float:
        """The row's value of that metric."""
        value = self.numbers[self.metric].value
        assert value is not None, "a complete run has its clock's metric"
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """A run that doesn't count, and why."""

    device: str
    title: str
    status: str
    reason: str
    started_at: str
    bench: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """All rows, and the runs that count in none; `excluded` holds the latest of them, `excluded_total` counts all.

    `profiled` are rows of runs that timed every operator, which makes an inference longer: their times are in no table.
    """

    rows: tuple[Row, ...]
    profiled: tuple[Row, ...]
    excluded: tuple[Excluded, ...]
    excluded_total: int
    excluded_reasons: tuple[tuple[str, str, int], ...]


@dataclass(slots=True)
class _Group:
    first: RunSummary
    environment: Environment
    values: dict[str, list[float]] = field(default_factory=dict)
    benches: dict[str, None] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    accuracy_samples: int | None = None

    def add(self, run: RunSummary) -> None:
        for name, value in run.metrics.items():
            self.values.setdefault(name, []).append(value)
        self.benches[run.bench] = None
        self.started.append(run.started_at)
        if run.accuracy_samples is not None:
            self.accuracy_samples = run.accuracy_samples


def kind_of(environment: Environment) -> Kind:
    """Whether a device's samples are its time, an emulator's time, or instructions."""
    if environment.clock == "guest_instructions":
        return "instructions"
    return "emulated" if environment.emulated else "device"


class RowKeys:
    """Names what a run must share with another to stand in one row; remembers what it has spelled out before."""

    def __init__(self, *, by_bench: bool) -> None:
        self._by_bench = by_bench
        self._spelled: dict[tuple[Any, ...], str] = {}

    def of(self, run: RunSummary) -> tuple[Any, ...]:
        """The key of a complete run."""
        environment = run.environment
        assert environment is not None, "a complete run has a report"
        machine = (environment.runtime_version, environment.clock, environment.emulated)
        return (*self.place(run), *machine, run.bench if self._by_bench else None)

    def place(self, run: RunSummary) -> tuple[Any, ...]:
        """The part of the key that a run has which was cut off, too."""
        subject, conditions = run.subject, run.conditions
        return (
            run.device.transport,
            run.device.name,
            subject.label,
            subject.model_sha256,
            subject.runtime,
            subject.target,
            subject.bundle,
            self._spell(subject.runtime_options),
            conditions.suite,
            conditions.threads,
            conditions.affinity,
            conditions.inputs_sha256,
            self._spell(conditions.protocol),
        )

    def _spell(self, value: Mapping[str, Any]) -> str:
        items = tuple(value.items())
        try:
            spelled = self._spelled.get(items)
        except TypeError:  # it holds a list or another mapping
            return canonical_json(value)
        if spelled is None:
            spelled = self._spelled[items] = canonical_json(value)
        return spelled


def rows_of(runs: Iterable[RunSummary], *, by_bench: bool = False) -> Rows:
    """Runs as rows, by device, then label; partial, void and failed runs apart."""
    keys = RowKeys(by_bench=by_bench)
    groups: dict[tuple[Any, ...], _Group] = {}
    out: list[RunSummary] = []
    out_by_place: dict[tuple[Any, ...], int] = {}
    for run in runs:
        if run.status != "complete" or run.environment is None or not run.metrics:
            out.append(run)
            place = keys.place(run)
            out_by_place[place] = out_by_place.get(place, 0) + 1
            continue
        key = keys.of(run)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(first=run, environment=run.environment)
        group.add(run)
    ordered = sorted(groups.values(), key=_order)
    timed = [group for group in ordered if not is_profile(group.first.conditions)]
    profiled = [group for group in ordered if is_profile(group.first.conditions)]
    return Rows(
        rows=tuple(_row(f"r{n}", group, keys, out_by_place, by_bench) for n, group in enumerate(timed)),
        profiled=tuple(_row(f"p{n}", group, keys, out_by_place, by_bench) for n, group in enumerate(profiled)),
        excluded=_excluded(out),
        excluded_total=len(out),
        excluded_reasons=_reasons(out),
    )


def is_profile(conditions: Conditions) -> bool:
    """Whether runs under these conditions timed every operator (`edgepack bench --profile`)."""
    return conditions.suite == "profile" or bool(conditions.protocol.get("profile"))


def title_of(subject: Subject) -> str:
    """A model as the page names it.

    >>> title_of(Subject(label="bundle", model_sha256="", size_bytes=1, runtime="litert", bundle="digits", version="1.0.0"))
    'digits 1.0.0 bundle'
    """
    return " ".join(part for part in (subject.bundle, subject.version, subject.label) if part)


def _order(group: _Group) -> tuple[Any, ...]:
    run = group.first
    kind = list(KINDS).index(kind_of(group.environment))
    subject = run.subject
    return kind, run.device.name, subject.bundle or "", subject.label, subject.target or "", group.started[0], run.bench


def _row(
    identity: str, group: _Group, keys: RowKeys, out_by_place: Mapping[tuple[Any, ...], int], by_bench: bool
) -> Row:
    run, environment = group.first, group.environment
    kind = kind_of(environment)
    values = group.values[KINDS[kind]]
    return Row(
        id=identity,
        kind=kind,
        device=run.device,
        subject=run.subject,
        conditions=run.conditions,
        environment=environment,
        bench=run.bench if by_bench else None,
        benches=len(group.benches),
        latest_bench=next(reversed(group.benches)),
        runs=len(group.started),
        excluded=out_by_place.get(keys.place(run), 0),
        first_at=min(group.started),
        last_at=max(group.started),
        numbers={name: _number(name, group) for name in METRICS},
        accuracy_samples=group.accuracy_samples,
        run_values=tuple(values),
    )


def _number(name: str, group: _Group) -> Number:
    values = group.values.get(name)
    if not values:
        return Number(value=None, why_none=_why_none(name, kind_of(group.environment)))
    if name == "latency_p99_ms" and len(values) < len(group.started):
        return Number(value=None, why_none="not every run has the 662 samples that a p99 needs")
    low, high = min(values), max(values)
    if name in SAME:
        value = values[-1]
        return Number(value=value, ci95=_share_ci(name, value, group), low=low, high=high, runs=len(values))
    value = high if name in LARGEST else statistics.median(values)
    ci95 = None if name in LARGEST else mean_ci(values)
    return Number(value=value, ci95=ci95, low=low, high=high, runs=len(values))


def _share_ci(name: str, value: float, group: _Group) -> Interval | None:
    """Wilson's interval, where the value is a share of so many samples."""
    n = group.accuracy_samples
    if name != "accuracy" or not n or not 0 <= value <= 1 or abs(value * n - round(value * n)) > 1e-6 * n:
        return None
    return binomial_ci(round(value * n), n)


def _why_none(name: str, kind: Kind) -> str:
    if name.startswith("latency_") and kind != "device":
        return "an emulator's time is no latency"
    if name == "latency_p99_ms":
        return "fewer than the 662 samples a run that a p99 needs"
    if name.startswith("emulated_") or name == "guest_instructions":
        return "only an emulated device has it"
    if name in ("load_ms", "first_ms"):
        return "an emulator's time is no latency"
    return {"energy_mj": "no energy sensor was read", "accuracy": "not measured on the device"}.get(
        name, "not measured"
    )


def _excluded(out: Sequence[RunSummary]) -> tuple[Excluded, ...]:
    latest = sorted(out, key=lambda run: run.started_at, reverse=True)[:EXCLUDED_SHOWN_MAX]
    return tuple(
        Excluded(
            device=run.device.name,
            title=title_of(run.subject),
            status=run.status,
            reason=run.reason or "no reason was recorded",
            started_at=run.started_at,
            bench=run.bench,
            attempt=run.attempt,
        )
        for run in latest
    )


def _reasons(out: Sequence[RunSummary]) -> tuple[tuple[str, str, int], ...]:
    counts: dict[tuple[str, str], int] = {}
    for run in out:
        key = (run.status, run.reason or "no reason was recorded")
        counts[key] = counts.get(key, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple((status, reason, count) for (status, reason), count in ranked[:EXCLUDED_SHOWN_MAX])
