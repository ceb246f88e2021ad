"""Latency of inferences, and of run medians: percentiles with intervals that claim no distribution, and a mean's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgepack.stats.intervals import CONFIDENCE, Interval, values_of

# MLPerf Inference rules, early stopping: fewer samples can't bound a p90 or a p99 with 99 % confidence.
P90_SAMPLES_MIN = 64
P99_SAMPLES_MIN = 662


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySummary:
    """Latency of `n` inferences, or of `n` run medians. `p99_ms` is None below 662 samples.

    `p50_ci95_ms` takes the samples as independent. Neighbouring samples of one process are not, so it is honest for
    run medians and too narrow for pooled samples. None for fewer than 6 samples.
    """

    n: int
    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    mean_ms: float
    min_ms: float
    p50_ci95_ms: Interval | None


def summary_ms(samples_ns: ArrayLike) -> LatencySummary:
    """Summary of samples in nanoseconds. Percentiles are Hyndman–Fan type 7 (NumPy's default). Raises ValueError if empty."""
    samples_ms = values_of(samples_ns) / 1e6
    return LatencySummary(
        n=len(samples_ms),
        p50_ms=float(np.quantile(samples_ms, 0.5)),
        p90_ms=float(np.quantile(samples_ms, 0.9)),
        p99_ms=float(np.quantile(samples_ms, 0.99)) if len(samples_ms) >= P99_SAMPLES_MIN else None,
        mean_ms=float(samples_ms.mean()),
        min_ms=float(samples_ms.min()),
        p50_ci95_ms=quantile_ci(samples_ms, 0.5),
    )


def quantile_ci(samples: ArrayLike, quantile: float, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Distribution-free interval of a quantile between two order statistics, or None where there are too few samples.

    The number of samples below the true quantile is binomial, whatever their distribution (Conover, Practical
    Nonparametric Statistics, 1999, §3.2; Hahn & Meeker, Statistical Intervals, 1991, §5.2). Coverage is at least
    `confidence` for independent samples. The median needs 6 samples, a p90 needs 36.
    """
    from scipy.stats import binom

    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie in (0, 1), got {quantile}")
    ordered = np.sort(values_of(samples))
    n, tail = len(ordered), (1 - confidence) / 2
    # Ranks count from 1. P(fewer than `low` samples lie below) ≤ tail, P(at least `high` lie below) ≤ tail.
    low = int(binom.ppf(tail, n, quantile))
    high = int(binom.ppf(1 - tail, n, quantile)) + 1
    if low < 1 or high > n:
        return None
    return float(ordered[low - 1]), float(ordered[high - 1])


def mean_ci(values: ArrayLike, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Student's t interval of the mean of independent values; None for fewer than 2.

    Student, Biometrika 6 (1908) 1–25. Exact for normal values, and good for others from some dozens on; for a mean
    over hundreds of per-sample differences the bootstrap gives the same.
    """
    from scipy.special import stdtrit

    data = values_of(values)
    n = len(data)
    if n < 2:
        return None
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * float(data.std(ddof=1)) / n**0.5
    return float(data.mean()) - half, float(data.mean()) + half
