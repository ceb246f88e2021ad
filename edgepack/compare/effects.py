"""How much of a metric one side has against the other, on one device: paired where the runs were interleaved."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgepack.core.errors import UsageError, did_you_mean
from edgepack.records import METRICS, Accuracy, DeviceName, RunSummary
from edgepack.stats import (
    CONFIDENCE,
    Interval,
    Verdict,
    mcnemar_p,
    paired_drop,
    paired_ratios,
    rank_sum_p,
    ratio_of_paired_medians,
    ratio_of_unpaired_medians,
    signed_rank_p,
    verdict_of,
    verdict_of_value,
)

Method = Literal["paired", "unpaired", "value", "answers"]
# Bytes of a file and instructions of a guest have no noise. Peak memory has some hundred kB of it, which a tolerance covers.
EXACT = frozenset({"size_bytes", "guest_instructions", "peak_memory_bytes", "model_memory_bytes"})
TOLERANCES: Mapping[str, float] = {
    "size_bytes": 0.01,
    "guest_instructions": 0.01,
    "peak_memory_bytes": 0.05,
    "model_memory_bytes": 0.05,
}
TOLERANCE = 0.03  # of everything that takes time or energy


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One metric on one device: b against a. `value` is b ÷ a, or for accuracy a − b in points; above `limit` b is too bad.

    `p` tests 'b is worse by more than the tolerance' (for accuracy: 'they differ', McNemar); None where nothing is random, or too little was run.
    """

    device: DeviceName
    metric: str
    a: float
    b: float
    value: float
    limit: float
    interval: Interval | None
    method: Method
    count: int
    verdict: Verdict
    p: float | None = None
    q: float | None = None


def tolerance_of(metric: str) -> float:
    """The tolerance where none is given. Raises UsageError for an unknown metric."""
    if metric not in METRICS:
        raise UsageError(f"unknown metric '{metric}'{did_you_mean(metric, METRICS)}")
    return TOLERANCES.get(metric, TOLERANCE)


def effect_of(
    metric: str,
    a: Sequence[RunSummary],
    b: Sequence[RunSummary],
    *,
    tolerance: float | None = None,
    confidence: float = CONFIDENCE,
) -> Effect | None:
    """The effect on one device, or None where a side lacks the metric. Runs of one bench are paired by round, others are not."""
    limit = 1 + (tolerance_of(metric) if tolerance is None else tolerance)
    sides = [{_place(run): run.metrics[metric] for run in runs if metric in run.metrics} for runs in (a, b)]
    if not all(sides):
        return None
    device, rounds = a[0].device, sorted(sides[0].keys() & sides[1].keys())
    values = [list(side.values()) for side in sides]
    middles = [statistics.median(side) for side in values]
    if metric in EXACT:
        return _exact(metric, device, middles, limit=limit, count=min(map(len, values)))
    if rounds:
        first, second = ([side[one] for one in rounds] for side in sides)
        ratio = ratio_of_paired_medians(second, first, confidence=confidence)
        p = signed_rank_p(np.log(paired_ratios(second, first) / limit))
    else:
        ratio = ratio_of_unpaired_medians(values[1], values[0], confidence=confidence)
        p = rank_sum_p(values[1], np.asarray(values[0]) * limit)
    return Effect(
        device=device,
        metric=metric,
        a=middles[0],
        b=middles[1],
        value=ratio.value,
        limit=limit,
        interval=ratio.ci95,
        method="paired" if rounds else "unpaired",
        count=ratio.pairs,
        verdict=verdict_of(ratio.ci95, limit),
        p=None if ratio.ci95 is None else p,
    )


def accuracy_effect(
    device: DeviceName, a: Accuracy, b: Accuracy, *, max_drop_points: float, confidence: float = CONFIDENCE
) -> Effect:
    """The drop of accuracy on the same samples, in points, with Bonett and Price's interval. Raises UsageError for other samples."""
    if a.inputs_sha256 != b.inputs_sha256 or len(a.correct) != len(b.correct) or a.metric != b.metric:
        raise UsageError(
            f"accuracy on {device.name}: the sides answered other questions: {a.metric} over {len(a.correct)} samples ({a.inputs_sha256[:12]}) and "
            f"{b.metric} over {len(b.correct)} ({b.inputs_sha256[:12]}); measure both with the same data and preprocessing"
        )
    drop, interval = paired_drop(a.correct, b.correct, confidence=confidence)
    return Effect(
        device=device,
        metric="accuracy",
        a=a.value,
        b=b.value,
        value=drop,
        limit=max_drop_points,
        interval=interval,
        method="answers",
        count=len(a.correct),
        verdict=verdict_of(interval, max_drop_points),
        p=mcnemar_p(a.correct, b.correct),
    )


def _place(run: RunSummary) -> tuple[str, int]:
    """Runs of two sides with the same place were measured side by side."""
    return run.bench, run.round


def _exact(metric: str, device: DeviceName, middles: Sequence[float], *, limit: float, count: int) -> Effect:
    a, b = middles
    ratio = b / a if a else math.inf if b else 1.0
    return Effect(
        device=device,
        metric=metric,
        a=a,
        b=b,
        value=ratio,
        limit=limit,
        interval=None,
        method="value",
        count=count,
        verdict=verdict_of_value(ratio, limit),
    )
