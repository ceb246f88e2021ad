"""Which runs belong together: those of one model on one device under one set of conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgepack.core.digest import canonical_json
from edgepack.records import Conditions, Environment, RunSummary

Kind = Literal["device", "emulated", "instructions"]
KINDS: Mapping[Kind, str] = {
    "device": "latency_p50_ms",
    "emulated": "emulated_p50_ms",
    "instructions": "guest_instructions",
}


# No process has a peak of 0 bytes: a device that can't tell it says so with 0 (devices/native.py).
PEAK = "peak_memory_bytes"
_OF_PEAK = (PEAK, "model_memory_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The complete runs of a row, in the order they were given."""

    runs: list[RunSummary]
    environment: Environment

    @property
    def first(self) -> RunSummary:
        """Any of them, for what all share."""
        return self.runs[0]

    @property
    def kind(self) -> Kind:
        """What its samples count."""
        return kind_of(self.environment)

    def values(self, name: str) -> list[float]:
        """A metric of the runs that have it."""
        told = self.runs
        if name in _OF_PEAK and not all(run.metrics.get(PEAK, 1.0) for run in told):
            told = [run for run in told if run.metrics.get(PEAK)]
        return [run.metrics[name] for run in told if name in run.metrics]


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """All groups, and the runs that count in none; `out_by_place` counts those by RowKeys.place."""

    groups: list[Group]
    out: list[RunSummary]
    out_by_place: Mapping[tuple[Any, ...], int]
    keys: RowKeys


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


def groups_of(runs: Iterable[RunSummary], *, by_bench: bool) -> Groups:
    """Runs by their keys. Runs that a store read share their parts, so most keys are found by those parts' identities, without spelling them."""
    keys = RowKeys(by_bench=by_bench)
    by_key: dict[tuple[Any, ...], Group] = {}
    by_parts: dict[tuple[int | str | None, ...], Group] = {}  # its runs are kept below, so no identity is used twice
    out: list[RunSummary] = []
    out_by_place: dict[tuple[Any, ...], int] = {}
    for run in runs:
        environment = run.environment
        if run.status != "complete" or environment is None or not run.metrics:
            out.append(run)
            place = keys.place(run)
            out_by_place[place] = out_by_place.get(place, 0) + 1
            continue
        bench = run.bench if by_bench else None
        parts = (id(run.device), id(run.subject), id(run.conditions), id(environment), bench)
        group = by_parts.get(parts)
        if group is None:
            group = by_key.setdefault(keys.of(run), Group(runs=[], environment=environment))
            by_parts[parts] = group
        group.runs.append(run)
    return Groups(groups=list(by_key.values()), out=out, out_by_place=out_by_place, keys=keys)


def is_profile(conditions: Conditions) -> bool:
    """Whether runs under these conditions timed every operator (`edgepack bench --profile`)."""
    return conditions.suite == "profile" or bool(conditions.protocol.get("profile"))
