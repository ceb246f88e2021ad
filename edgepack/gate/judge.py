"""The decision: measure, look, extend once where that was inconclusive, and correct for the number of devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgepack.compare import (
    EXACT,
    Effect,
    accuracy_effect,
    by_device,
    choose,
    corrected,
    effect_of,
    refuse_unlike,
    shown_device,
)
from edgepack.core.errors import UsageError
from edgepack.gate.limits import Limits
from edgepack.records import Accuracy, DeviceName, RunRecord, RunSummary
from edgepack.stats import CONFIDENCE, Verdict, pairs_to_decide, worst

SCHEMA = "edgepack.gate/1"
BASELINE, BUNDLE = "baseline", "bundle"
Measure = Callable[[str, int], Sequence[RunRecord]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What a gate found: one effect a device and metric, the verdict over all, and hints for what it couldn't decide. `benches` are its runs' ids."""

    bundle: str
    baseline: str
    verdict: Verdict
    effects: tuple[Effect, ...]
    hints: tuple[str, ...]
    benches: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"schema": SCHEMA, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A baseline that was measured before: its runs and answers."""

    runs: tuple[RunSummary, ...]
    answers: tuple[tuple[DeviceName, Accuracy], ...] = ()


def judge(
    measure: Measure, *, devices: Sequence[str], limits: Limits, names: tuple[str, str], stored: Stored | None = None
) -> GateResult:
    """Judge the runs that `measure(device, rounds)` brings: of 'bundle' and, unless the baseline is stored, of 'baseline' in turns.

    `names` are the baseline's and the bundle's. A device whose noisy metrics aren't all decided at the
    first look is measured once more, up to the last look's number of pairs. Raises UsageError where the results may not be compared.
    """
    runs = {device: list(measure(device, limits.rounds)) for device in devices}
    first, last = limits.looks.confidences
    effects = {device: _effects(runs[device], limits, stored, names, confidence=first) for device in devices}
    _refuse_same_device(effects)
    looked = _corrected(effects)
    more = limits.looks.total - limits.looks.first
    for device in devices:
        undecided = {one.metric for one in looked[device] if _can_be_extended(one)}
        if undecided and more:
            runs[device] += measure(device, more)
            later = _effects(runs[device], limits, stored, names, confidence=last)
            effects[device] = [
                new if new.metric in undecided else old for old, new in zip(effects[device], later, strict=True)
            ]
    final = tuple(one for device in devices for one in _corrected(effects)[device])
    return GateResult(
        baseline=names[0],
        bundle=names[1],
        verdict=worst([one.verdict for one in final]),
        effects=final,
        hints=tuple(hint for one in final if (hint := _hint(one))),
        benches=tuple(dict.fromkeys(record.bench for records in runs.values() for record in records)),
    )


def _effects(
    records: Sequence[RunRecord], limits: Limits, stored: Stored | None, names: tuple[str, str], *, confidence: float
) -> list[Effect]:
    """Every asked metric on one device. Raises UsageError for one that wasn't measured."""
    summaries = [RunSummary.of(one) for one in records]
    b = choose(names[1], summaries, label=BUNDLE)
    device = b[0].device
    a = choose(names[0], summaries, label=BASELINE) if stored is None else stored.runs
    sides = by_device(a), by_device(b)
    refuse_unlike(*names, *sides)
    effects = []
    for metric, tolerance in limits.tolerances.items():
        found = effect_of(metric, sides[0][device], sides[1][device], tolerance=tolerance, confidence=confidence)
        if found is None:
            both = sorted(sides[0][device][0].metrics.keys() & sides[1][device][0].metrics.keys())
            raise UsageError(
                f"{metric}: {shown_device(device)} didn't measure it for both; it measured {', '.join(both)}"
            )
        effects.append(found)
    if limits.max_drop_points is not None:
        effects.append(_accuracy(records, device, stored, names, max_drop_points=limits.max_drop_points))
    return effects


def _accuracy(
    records: Sequence[RunRecord],
    device: DeviceName,
    stored: Stored | None,
    names: tuple[str, str],
    *,
    max_drop_points: float,
) -> Effect:
    b = _answers(records, BUNDLE)
    a = _answers(records, BASELINE) if stored is None else dict(stored.answers).get(device)
    if a is None or b is None:
        without = names[0] if a is None else names[1]
        raise UsageError(
            f"accuracy on {shown_device(device)}: '{without}' has no answers a sample; bench it with --accuracy RECIPE, or leave --max-drop-points out"
        )
    return accuracy_effect(device, a, b, max_drop_points=max_drop_points, confidence=CONFIDENCE)


def _answers(records: Sequence[RunRecord], label: str) -> Accuracy | None:
    return next((one.accuracy for one in records if one.subject.label == label and one.accuracy is not None), None)


def _corrected(effects: dict[str, list[Effect]]) -> dict[str, list[Effect]]:
    """All of them corrected together, by device again."""
    flat = iter(corrected([one for group in effects.values() for one in group]))
    return {device: [next(flat) for _ in group] for device, group in effects.items()}


def _can_be_extended(one: Effect) -> bool:
    """More pairs help what is noisy; a drop of accuracy needs more samples instead."""
    return one.verdict is Verdict.INCONCLUSIVE and one.metric not in EXACT and one.method != "answers"


def _refuse_same_device(effects: dict[str, list[Effect]]) -> None:
    """Two addresses of one device would count it twice."""
    seen: dict[DeviceName, str] = {}
    for address, group in effects.items():
        device = group[0].device
        if device in seen:
            raise UsageError(f"--device {address}: it is the device of --device {seen[device]}; name each device once")
        seen[device] = address


def _hint(one: Effect) -> str | None:
    """What would decide an inconclusive effect."""
    if one.verdict is not Verdict.INCONCLUSIVE:
        return None
    where = f"{one.metric} on {shown_device(one.device)}"
    if one.method == "answers":
        return f"{where}: {one.count} samples can't tell; use more, or allow a larger drop"
    if one.interval is None:
        return f"{where}: {one.count} complete pairs are too few"
    low, high = one.interval
    if low > one.limit:
        return f"{where}: it looks worse, but among so many devices that may be chance (q = {one.q:.3f}); raise --pairs"
    needed = pairs_to_decide((low, high), one.value, one.limit, pairs=one.count)
    if needed is None:
        return f"{where}: the ratio is too near its limit; allow more, or measure on a quieter device"
    return f"{where}: about {needed} pairs would decide (--pairs {needed}), or allow more"
