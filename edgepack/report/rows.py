"""Rows of the report: every run of one model on one device under one set of conditions, and what is computed over them.

A row is read from summaries alone, in one pass, so that hundreds of thousands of runs take seconds. docs/report.md says what each number means.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.records import METRICS, Conditions, DeviceName, Environment, RunSummary, Subject
from edgepack.report.groups import KINDS, Group, Groups, Kind, groups_of, is_profile
from edgepack.stats import Interval, binomial_ci, mean_ci

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


def rows_of(runs: Iterable[RunSummary], *, by_bench: bool = False) -> Rows:
    """Runs as rows, by device, then label; partial, void and failed runs apart."""
    found = groups_of(runs, by_bench=by_bench)
    ordered = sorted(found.groups, key=_order)
    timed = [group for group in ordered if not is_profile(group.first.conditions)]
    profiled = [group for group in ordered if is_profile(group.first.conditions)]
    return Rows(
        rows=tuple(_row(f"r{n}", group, found, by_bench) for n, group in enumerate(timed)),
        profiled=tuple(_row(f"p{n}", group, found, by_bench) for n, group in enumerate(profiled)),
        excluded=_excluded(found.out),
        excluded_total=len(found.out),
        excluded_reasons=_reasons(found.out),
    )


def title_of(subject: Subject) -> str:
    """A model as the page names it.

    >>> title_of(Subject(label="bundle", model_sha256="", size_bytes=1, runtime="litert", bundle="digits", version="1.0.0"))
    'digits 1.0.0 bundle'
    """
    return " ".join(part for part in (subject.bundle, subject.version, subject.label) if part)


def _order(group: Group) -> tuple[Any, ...]:
    run = group.first
    kind = list(KINDS).index(group.kind)
    subject = run.subject
    began = min(one.started_at for one in group.runs)
    return kind, _natural(run.device.name), subject.bundle or "", subject.label, subject.target or "", began, run.bench


def _natural(name: str) -> list[tuple[int, str]]:
    """So that device2 comes before device10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", name)]


def _row(identity: str, group: Group, found: Groups, by_bench: bool) -> Row:
    run = group.first
    last = max(group.runs, key=lambda one: one.started_at)
    return Row(
        id=identity,
        kind=group.kind,
        device=run.device,
        subject=run.subject,
        conditions=run.conditions,
        environment=group.environment,
        bench=run.bench if by_bench else None,
        benches=len({one.bench for one in group.runs}),
        latest_bench=last.bench,
        runs=len(group.runs),
        excluded=found.out_by_place.get(found.keys.place(run), 0),
        first_at=min(one.started_at for one in group.runs),
        last_at=last.started_at,
        numbers={name: _number(name, group) for name in METRICS},
        accuracy_samples=next((n for one in group.runs if (n := one.accuracy_samples) is not None), None),
        run_values=tuple(group.values(KINDS[group.kind])),
    )


def _number(name: str, group: Group) -> Number:
    values = group.values(name)
    if not values:
        return Number(value=None, why_none=_why_none(name, group.kind))
    if name == "latency_p99_ms" and len(values) < len(group.runs):
        return Number(value=None, why_none="not every run has the 662 samples that a p99 needs")
    low, high = min(values), max(values)
    if name in SAME:
        value = values[-1]
        return Number(value=value, ci95=_share_ci(name, value, group), low=low, high=high, runs=len(values))
    value = high if name in LARGEST else statistics.median(values)
    ci95 = None if name in LARGEST else mean_ci(values)
    return Number(value=value, ci95=ci95, low=low, high=high, runs=len(values))


def _share_ci(name: str, value: float, group: Group) -> Interval | None:
    """Wilson's interval, where the value is a share of so many samples."""
    n = next((run.accuracy_samples for run in reversed(group.runs) if "accuracy" in run.metrics), None)
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
    if name.endswith("_memory_bytes"):
        return "the device didn't tell it"
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
