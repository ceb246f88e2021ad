"""What a bench found, one figure a metric: the median over its complete runs, for formats that take one number."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgepack.core.errors import UsageError
from edgepack.records import METRICS, DeviceName, RunSummary, Subject
from edgepack.store.exports import Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The median over runs with the smallest and the largest; `direction` is which is better, 'lower' or 'higher'."""

    metric: str
    value: float
    low: float
    high: float
    runs: int

    @property
    def unit(self) -> str:
        return METRICS[self.metric][1]

    @property
    def direction(self) -> str:
        return METRICS[self.metric][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One model on one device under one protocol. `name` stays the same from build to build, so that a service can draw its history."""

    name: str
    subject: Subject
    device: DeviceName
    suite: str
    threads: int
    runtime_version: str
    emulated: str | None
    figures: Mapping[str, Figure]


def series_of(runs: Iterable[Kept]) -> list[Series]:
    """Complete runs by series, in their order. Raises UsageError where there is none, or where a name would mean two models."""
    groups: dict[str, list[RunSummary]] = {}
    statuses: set[str] = set()
    for kept in runs:
        statuses.add(kept.summary.status)
        if kept.summary.status == "complete" and kept.summary.environment is not None:
            groups.setdefault(_name(kept.summary), []).append(kept.summary)
    if not groups:
        raise UsageError(f"nothing to export: no run is complete (they are: {', '.join(sorted(statuses))})")
    return [_series(name, group) for name, group in groups.items()]


def emulator_of(run: RunSummary) -> str | None:
    """The emulator that a run's device is, else None."""
    return None if run.environment is None else run.environment.emulated


def _name(run: RunSummary) -> str:
    subject, conditions = run.subject, run.conditions
    model = " ".join(
        part for part in (subject.bundle, subject.label, subject.target and f"for {subject.target}") if part
    )
    threads = f"{conditions.threads} thread{'s' if conditions.threads > 1 else ''}"
    device = f"{run.device.transport}:{run.device.name}" + _kind_of_device(run)
    return f"{model} on {device}, {subject.runtime}, {threads}, {conditions.suite}"


def _kind_of_device(run: RunSummary) -> str:
    """What sets an emulator apart from a board, and its clock that counts instructions from one that counts time."""
    if (emulator := emulator_of(run)) is None or run.environment is None:
        return ""
    counting = ", counting instructions" if run.environment.clock == "guest_instructions" else ""
    return f" (emulated by {emulator}{counting})"


def _series(name: str, runs: list[RunSummary]) -> Series:
    first = runs[0]
    assert first.environment is not None  # `series_of` takes no other
    for run in runs[1:]:
        if differing := _differing(first, run):
            raise UsageError(f"'{name}' would mean results of {differing}: choose one bench, or filter further")
    metrics = dict.fromkeys(metric for run in runs for metric in run.metrics if metric in METRICS)
    return Series(
        name=name,
        subject=first.subject,
        device=first.device,
        suite=first.conditions.suite,
        threads=first.conditions.threads,
        runtime_version=first.environment.runtime_version,
        emulated=first.environment.emulated,
        figures={metric: _figure(metric, runs) for metric in metrics},
    )


def _differing(a: RunSummary, b: RunSummary) -> str | None:
    """What two runs of one name don't share, in words."""
    if a.subject.model_sha256 != b.subject.model_sha256:
        return f"two models ({a.subject.model_sha256[:8]}… and {b.subject.model_sha256[:8]}…)"
    if a.environment is not b.environment and a.environment is not None and b.environment is not None:
        versions = a.environment.runtime_version, b.environment.runtime_version
        if versions[0] != versions[1]:
            return f"two versions of {a.subject.runtime} ({versions[0]} and {versions[1]})"
    return None if a.conditions == b.conditions else "two protocols"


def _figure(metric: str, runs: list[RunSummary]) -> Figure:
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    return Figure(metric=metric, value=statistics.median(values), low=min(values), high=max(values), runs=len(values))
