"""Compares two sides of results, device by device and metric by metric: only where what must match matches. docs/statistics.md says how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgepack.compare.effects import EXACT, Effect, accuracy_effect, effect_of, tolerance_of
from edgepack.compare.facts import notes_on, refuse_unlike, shown_device
from edgepack.compare.sides import Side, choose, read_side
from edgepack.core.errors import UsageError, did_you_mean
from edgepack.records import METRICS, DeviceName, RunSummary
from edgepack.stats import PAIRS_MIN, Verdict, benjamini_hochberg

SCHEMA = "edgepack.compare/1"
FALSE_DISCOVERIES = 0.05
MAX_DROP_POINTS = 0.5
DRIFT = (
    "the runs were not interleaved: what changed on the device between the two benches (heat, load, updates) is in the ratio, and its interval doesn't know; "
    "'edgepack gate B --baseline A' measures both in turns"
)

__all__ = [
    "EXACT",
    "MAX_DROP_POINTS",
    "Comparison",
    "Effect",
    "Side",
    "accuracy_effect",
    "by_device",
    "choose",
    "compare",
    "compare_sides",
    "corrected",
    "effect_of",
    "read_side",
    "refuse_unlike",
    "shown_device",
    "tolerance_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """b against a: one effect a device and metric, and what to keep in mind."""

    a: str
    b: str
    effects: tuple[Effect, ...]
    notes: tuple[str, ...]

    @property
    def interleaved(self) -> bool:
        """Whether every noisy metric was measured in turns."""
        return all(one.method != "unpaired" for one in self.effects)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"schema": SCHEMA, **asdict(self), "interleaved": self.interleaved}


def compare(
    a: Sequence[RunSummary],
    b: Sequence[RunSummary],
    *,
    metrics: Sequence[str] | None = None,
    tolerances: Mapping[str, float] | None = None,
    names: tuple[str, str] = ("A", "B"),
) -> Comparison:
    """b against a on every device that both ran on; metrics None: all that both have. Accuracy needs the answers: `compare_sides`.

    Raises UsageError naming what differs where they may not be compared, and for a metric that no device has on both sides.
    """
    wanted, tolerances = _wanted(metrics), tolerances or {}
    groups = by_device(a), by_device(b)
    devices = refuse_unlike(*names, *groups)
    effects = []
    for device in devices:
        for metric in wanted:
            if metric != "accuracy":
                found = effect_of(metric, groups[0][device], groups[1][device], tolerance=tolerances.get(metric))
                effects += [] if found is None else [found]
    _refuse_missing(metrics, effects, names)
    notes = notes_on(*names, a, b)
    if any(one.method == "unpaired" for one in effects):
        notes.insert(0, DRIFT)
    if few := min((one.count for one in effects if one.metric not in EXACT and one.interval is None), default=0):
        notes.append(f"{few} runs a side are too few for an interval of a ratio; {PAIRS_MIN} are needed")
    return Comparison(a=names[0], b=names[1], effects=corrected(effects), notes=tuple(notes))


def compare_sides(
    a: Side,
    b: Side,
    *,
    metrics: Sequence[str] | None = None,
    tolerances: Mapping[str, float] | None = None,
    max_drop_points: float = MAX_DROP_POINTS,
) -> Comparison:
    """As `compare`, with accuracy where both sides kept which samples were right."""
    wants_accuracy = metrics is None or "accuracy" in metrics
    others = None if metrics is None else [one for one in metrics if one != "accuracy"]
    found = compare(a.runs, b.runs, metrics=others, tolerances=tolerances, names=(a.name, b.name))
    answers = dict(a.answers), dict(b.answers)
    drops = []
    if wants_accuracy:
        shared = [device for device in answers[0] if device in answers[1]]
        drops = [
            accuracy_effect(one, answers[0][one], answers[1][one], max_drop_points=max_drop_points) for one in shared
        ]
    if metrics is not None and wants_accuracy and not drops:
        raise UsageError(
            f"accuracy: '{a.name}' and '{b.name}' don't both hold the answers of one device; bench them with accuracy first"
        )
    order = {device: index for index, device in enumerate(by_device(a.runs))}
    effects = sorted((*found.effects, *drops), key=lambda one: order[one.device])
    return replace(found, effects=tuple(effects))


def corrected(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """The same with q-values over all ratios that have a p-value, when there are several; a FAIL that doesn't survive becomes INCONCLUSIVE.

    Among many devices some ratio looks bad by chance. With Benjamini and Hochberg's q ≤ 0.05, on average at most 5 % of the FAILs are false.
    """
    tested = [index for index, one in enumerate(effects) if one.p is not None and one.method in ("paired", "unpaired")]
    if len(tested) < 2:
        return tuple(effects)
    found = list(effects)
    for index, q in zip(tested, benjamini_hochberg([effects[one].p or 0.0 for one in tested]), strict=True):
        one = found[index]
        survives = one.verdict is not Verdict.FAIL or q <= FALSE_DISCOVERIES
        found[index] = replace(one, q=q, verdict=one.verdict if survives else Verdict.INCONCLUSIVE)
    return tuple(found)


def _wanted(metrics: Sequence[str] | None) -> Sequence[str]:
    for one in metrics or ():
        if one not in METRICS:
            raise UsageError(f"unknown metric '{one}'{did_you_mean(one, METRICS)}")
    return tuple(METRICS) if metrics is None else metrics


def by_device(runs: Sequence[RunSummary]) -> dict[DeviceName, list[RunSummary]]:
    """The runs of each device, devices in the order of their first run."""
    found: dict[DeviceName, list[RunSummary]] = {}
    for run in runs:
        found.setdefault(run.device, []).append(run)
    return found


def _refuse_missing(metrics: Sequence[str] | None, effects: Sequence[Effect], names: tuple[str, str]) -> None:
    have = {one.metric for one in effects}
    if missing := [one for one in metrics or () if one not in have and one != "accuracy"]:
        known = f"they share {', '.join(sorted(have))}" if have else "nothing that was asked for is in both"
        raise UsageError(f"'{names[0]}' and '{names[1]}': no device has {', '.join(missing)} on both sides; {known}")
