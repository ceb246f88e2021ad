"""Tests by ranks, whose false alarm rate is exact for few pairs, and the correction for many of them at once."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgepack.stats.intervals import values_of

_EXACT_PAIRS_MAX = 60


def signed_rank_p(differences: ArrayLike) -> float:
    """Wilcoxon's signed-rank test: how likely such differences, or larger ones, are if they lie symmetrically around 0; small for 'above 0'.

    For pairs of an A/A benchmark the logarithm of the ratio is symmetric by construction: which of two equal models is called A is a coin's toss. So
    p of log(ratio ÷ (1 + tolerance)) tests 'slower by more than the tolerance'. Exact up to 60 differences, by counting all 2ⁿ signs (Wilcoxon,
    Biometrics Bulletin 1 (1945) 80–83; ties share their mean rank, zeros are left out), then the normal approximation with its tie correction.
    It can't be smaller than 0.5ⁿ: 0.004 for 8 pairs. Equals SciPy's `wilcoxon(…, alternative="greater")`.
    """
    values = values_of(differences)
    values = values[values != 0]
    if not len(values):
        return 1.0
    doubled = _doubled_ranks(np.abs(values))
    above = int(doubled[values > 0].sum())
    if len(values) <= _EXACT_PAIRS_MAX:
        tail = _signed_rank_counts(tuple(sorted(doubled.tolist())))
        return float(tail[above:].sum())
    mean, variance = doubled.sum() / 2, float((doubled.astype(np.float64) ** 2).sum()) / 4
    return 1 - NormalDist().cdf((above - mean) / variance**0.5)


def rank_sum_p(a: ArrayLike, b: ArrayLike) -> float:
    """Mann and Whitney's rank-sum test: how likely a is so much above b if both have one distribution; small for 'a above b'.

    Annals of Math. Stat. 18 (1947) 50–60; SciPy's `mannwhitneyu(…, alternative="greater")`, exact without ties up to 8 runs on a side. For runs
    that were not interleaved, never for single iterations: pooled iterations gave 37 to 76 % false alarms on a noisy machine.
    """
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(values_of(a), values_of(b), alternative="greater").pvalue)


def benjamini_hochberg(p_values: ArrayLike) -> tuple[float, ...]:
    """Adjusted p-values (q) in the order given: calling all with q ≤ 0.05 different, on average at most 5 % of those called are not.

    Benjamini & Hochberg, J. Royal Stat. Soc. B 57 (1995) 289–300: for independent tests, and for positively dependent ones
    (Benjamini & Yekutieli, Annals of Stat. 29 (2001) 1165–1188), which devices with one baseline are. Equals SciPy's
    `false_discovery_control`. Raises ValueError for values outside 0…1; an empty list gives an empty one.
    """
    p = np.asarray(p_values, dtype=np.float64).reshape(-1)
    if not len(p):
        return ()
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values lie in 0…1, got {p[(p < 0) | (p > 1) | np.isnan(p)][0]}")
    order = np.argsort(p)[::-1]
    scaled = p[order] * len(p) / np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum.accumulate(np.minimum(scaled, 1.0))
    return tuple(adjusted.tolist())


def _doubled_ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Twice the ranks from 1 on, so that the mean ranks of ties are whole numbers, too."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    doubled: NDArray[np.int64] = (2 * last - counts + 1)[which]
    return doubled


@lru_cache(maxsize=64)
def _signed_rank_counts(doubled: tuple[int, ...]) -> NDArray[np.float64]:
    """The probability of each sum of the positive ones' doubled ranks, when each sign is a coin's toss."""
    found = np.ones(1)
    for rank in doubled:
        longer = np.zeros(len(found) + rank)
        longer[: len(found)] += found / 2
        longer[rank:] += found / 2
        found = longer
    return found
