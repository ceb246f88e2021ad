"""Statistics of measurements and of accuracies: pure, deterministic functions, each with its source.

Intervals are two-sided and hold the true value in about 95 % of repetitions. SciPy is imported where it is used, so
that commands that need no statistics don't pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

Interval = tuple[float, float]

CONFIDENCE = 0.95
# MLPerf Inference rules, early stopping: fewer samples can't bound a p90 or a p99 with 99 % confidence.
P90_SAMPLES_MIN = 64
P99_SAMPLES_MIN = 662
# With 5 pairs the bootstrap interval of a median is their range, which holds the true median in 94 %; with fewer it
# would claim what the data can't: 1 − 2 × 0.5⁴ = 87.5 % for 4.
PAIRS_MIN = 5
_RESAMPLES = 10_000


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times as long a takes as b; below 1 means that a is faster. `ci95` is None for fewer than 5 pairs."""

    value: float
    ci95: Interval | None
    pairs: int


def summary_ms(samples_ns: ArrayLike) -> LatencySummary:
    """Summary of samples in nanoseconds. Percentiles are Hyndman–Fan type 7 (NumPy's default). Raises ValueError if empty."""
    samples_ms = _values(samples_ns) / 1e6
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
    ordered = np.sort(_values(samples))
    n, tail = len(ordered), (1 - confidence) / 2
    # Ranks count from 1. P(fewer than `low` samples lie below) ≤ tail, P(at least `high` lie below) ≤ tail.
    low = int(binom.ppf(tail, n, quantile))
    high = int(binom.ppf(1 - tail, n, quantile)) + 1
    if low < 1 or high > n:
        return None
    return float(ordered[low - 1]), float(ordered[high - 1])


def binomial_ci(successes: int, n: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of a share in 0…1, such as an accuracy or the share of samples with the same class.

    Wilson, JASA 22 (1927) 209–212; recommended by Brown, Cai & DasGupta, Statistical Science 16 (2001) 101–133, also
    near 0 and 1, where ± 1.96 standard errors fails. Raises ValueError unless 0 ≤ successes ≤ n and n > 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"need 0 <= successes <= n and n > 0, got {successes} of {n}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    # The ends are exact there; rounding would leave 1e-17.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def paired_drop(
    correct_a: ArrayLike, correct_b: ArrayLike, *, confidence: float = CONFIDENCE
) -> tuple[float, Interval]:
    """Accuracy of a minus accuracy of b on the same samples, and its interval, in percentage points.

    Each argument says for each sample whether that model was right. The interval is Bonett & Price's adjusted Wald
    interval for paired proportions (British J. Math. Stat. Psych. 65 (2012) 479–488): one pair is added to each kind
    of disagreement. Fagerland, Lydersen & Laake (Stat. in Medicine 33 (2014) 2850–2875) recommend it. Only the
    samples on which the models disagree count, so it is much narrower than two separate intervals.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"need two equally long, non-empty sequences, got shapes {a.shape} and {b.shape}")
    n, only_a, only_b = len(a), int(np.sum(a & ~b)), int(np.sum(~a & b))
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    centre = share_a - share_b
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = z * float(np.sqrt((share_a + share_b - centre**2) / (n + 2)))
    return 100 * (only_a - only_b) / n, (100 * max(-1.0, centre - half), 100 * min(1.0, centre + half))


def mean_ci(values: ArrayLike, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Student's t interval of the mean of independent values; None for fewer than 2.

    Student, Biometrika 6 (1908) 1–25. Exact for normal values, and good for others from some dozens on; for a mean
    over hundreds of per-sample differences the bootstrap gives the same.
    """
    from scipy.special import stdtrit

    data = _values(values)
    n = len(data)
    if n < 2:
        return None
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * float(data.std(ddof=1)) / n**0.5
    return float(data.mean()) - half, float(data.mean()) + half


def ratio_of_paired_medians(
    a_medians: ArrayLike, b_medians: ArrayLike, *, confidence: float = CONFIDENCE, seed: int = 0
) -> Ratio:
    """How many times as long a takes as b: the median of the ratios of run medians that were measured side by side.

    Run i of a and run i of b belong to the same round of an interleaved benchmark, so what slows both (another
    process, heat) leaves their ratio alone. The interval is the percentile bootstrap over pairs (Efron & Tibshirani,
    An Introduction to the Bootstrap, 1993, §13.3) with a fixed seed. Whole runs are resampled, never single
    iterations: those of one process resemble each other, and treating them as independent finds differences that
    don't exist. Simulated coverage: 92 to 95 % with 5 to 15 pairs, but 88 % with 7: take 5, 6 or from 8 on.
    Raises ValueError for unequal lengths, no pairs or values that are not positive.
    """
    a, b = _values(a_medians), _values(b_medians)
    if a.shape != b.shape or a.min() <= 0 or b.min() <= 0:
        raise ValueError(f"need pairs of positive run medians, got {len(a)} and {len(b)} of them")
    ratios = a / b
    value = float(np.median(ratios))
    if len(ratios) < PAIRS_MIN:
        return Ratio(value=value, ci95=None, pairs=len(ratios))
    picks = np.random.default_rng(seed).integers(0, len(ratios), (_RESAMPLES, len(ratios)))
    medians = np.median(ratios[picks], axis=1)
    # Real resamples, not values interpolated between them: with few pairs these would be too narrow.
    tail = (1 - confidence) / 2
    low = float(np.quantile(medians, tail, method="lower"))
    high = float(np.quantile(medians, 1 - tail, method="higher"))
    return Ratio(value=value, ci95=(low, high), pairs=len(ratios))


def _values(samples: ArrayLike) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The samples as a flat array. Raises ValueError when there are none."""
    values = np.asarray(samples, dtype=np.float64).reshape(-1)
    if not len(values):
        raise ValueError("no samples")
    return values
