"""A metric over builds: one point a bench, in the order in which the benches began."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.core.digest import canonical_json
from edgepack.records import METRICS, RunSummary
from edgepack.report.groups import KINDS, is_profile, kind_of
from edgepack.report.panels import Place
from edgepack.report.rows import LARGEST
from edgepack.stats import Interval, mean_ci

POINTS_MAX = 40
LINES_MAX = 12
_BESIDE_TIME = ("model_memory_bytes", "size_bytes", "accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One bench of a line. `changed` says what else than the model differs from the moment before; '' for nothing."""

    bench: str
    at: str
    version: str | None
    model_sha256: str
    runtime_version: str
    runs: int
    value: float
    ci95: Interval | None
    low: float
    high: float
    changed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLine:
    """A bundle's model (or its float model) on one device under equal conditions, over its builds. `left_out` moments are older than those shown."""

    label: str
    bundle: str | None
    target: str | None
    threads: int
    suite: str
    moments: tuple[Moment, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPanel:
    """One metric on one device."""

    place: Place
    metric: str
    unit: str
    lines: tuple[HistoryLine, ...]

    @property
    def is_flat(self) -> bool:
        """Whether no line ever changed: said in words rather than drawn."""
        return all(len({moment.value for moment in line.moments}) == 1 for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All panels; `lines_left_out` are the lines of further devices that aren't drawn."""

    panels: tuple[HistoryPanel, ...]
    lines_left_out: int


_Key = tuple[Place, str, str | None, str | None, int, str]


def history_of(runs: Iterable[RunSummary], places: Sequence[Place]) -> History:
    """Panels of the given places, for every metric with two moments at least; only complete runs count."""
    wanted = set(places)
    lines: dict[_Key, dict[str, list[RunSummary]]] = {}
    for run in runs:
        if _counts(run) and run.environment is not None:
            place = Place(device=run.device, kind=kind_of(run.environment))
            if place in wanted:
                lines.setdefault(_key(run, place), {}).setdefault(run.bench, []).append(run)
    lines = {key: benches for key, benches in lines.items() if len(benches) > 1}
    kept = sorted(lines, key=lambda key: (list(KINDS).index(key[0].kind), key[0].device.name, str(key[1:])))[:LINES_MAX]
    panels = []
    for place in dict.fromkeys(key[0] for key in kept):
        for metric in (KINDS[place.kind], *_BESIDE_TIME):
            found = [_line(key, lines[key], metric) for key in kept if key[0] == place]
            drawn = tuple(line for line in found if len(line.moments) > 1)
            if drawn:
                panels.append(HistoryPanel(place=place, metric=metric, unit=METRICS[metric][1], lines=drawn))
    return History(panels=tuple(panels), lines_left_out=len(lines) - len(kept))


def _counts(run: RunSummary) -> bool:
    return run.status == "complete" and bool(run.metrics) and not is_profile(run.conditions)


def _key(run: RunSummary, place: Place) -> _Key:
    subject, conditions = run.subject, run.conditions
    return place, subject.label, subject.bundle, subject.target, conditions.threads, conditions.suite


def _line(key: _Key, benches: dict[str, list[RunSummary]], metric: str) -> HistoryLine:
    _, label, bundle, target, threads, suite = key
    ordered = sorted(benches.values(), key=lambda runs: min(run.started_at for run in runs))
    having = [[run for run in runs if metric in run.metrics] for runs in ordered]
    whole = [runs for runs in having if runs]
    shown = whole[-POINTS_MAX:]
    before = [whole[-POINTS_MAX - 1] if len(whole) > POINTS_MAX else None, *shown[:-1]][: len(shown)]
    moments = tuple(_moment(runs, metric, last) for runs, last in zip(shown, before, strict=True))
    return HistoryLine(
        label=label,
        bundle=bundle,
        target=target,
        threads=threads,
        suite=suite,
        moments=moments,
        left_out=len(whole) - len(shown),
    )


def _moment(runs: Sequence[RunSummary], metric: str, before: Sequence[RunSummary] | None) -> Moment:
    values = [run.metrics[metric] for run in runs]
    first = runs[0]
    assert first.environment is not None, "only complete runs make a moment"
    return Moment(
        bench=first.bench,
        at=min(run.started_at for run in runs),
        version=first.subject.version,
        model_sha256=first.subject.model_sha256,
        runtime_version=f"{first.environment.runtime} {first.environment.runtime_version}",
        runs=len(runs),
        value=max(values) if metric in LARGEST else statistics.median(values),
        ci95=mean_ci(values) if min(values) < max(values) else None,
        low=min(values),
        high=max(values),
        changed="" if before is None else ", ".join(_changes(before[0], first)),
    )


def _changes(before: RunSummary, now: RunSummary) -> list[str]:
    """What makes two moments no pure comparison of models."""
    a, b = _facts(before), _facts(now)
    return [name for name, value in b.items() if a[name] != value]


def _facts(run: RunSummary) -> dict[str, Any]:
    environment, conditions = run.environment, run.conditions
    assert environment is not None, "only complete runs make a moment"
    return {
        "runtime": (environment.runtime, environment.runtime_version),
        "runtime options": canonical_json(dict(run.subject.runtime_options)),
        "kernel": environment.kernel,
        "Python": environment.python,
        "protocol": canonical_json(dict(conditions.protocol)),
        "affinity": conditions.affinity,
        "inputs": conditions.inputs_sha256,
    }
