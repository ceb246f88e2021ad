"""Accuracies and other shares: one share, two models on the same samples, and whether they differ at all."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from edgepack.stats.intervals import CONFIDENCE, Interval

_RESAMPLES = 10_000


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
    n, only_a, only_b = _disagreements(correct_a, correct_b)
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    centre = share_a - share_b
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = z * float(np.sqrt((share_a + share_b - centre**2) / (n + 2)))
    return 100 * (only_a - only_b) / n, (100 * max(-1.0, centre - half), 100 * min(1.0, centre + half))


def bootstrap_drop(
    correct_a: ArrayLike, correct_b: ArrayLike, *, confidence: float = CONFIDENCE, seed: int = 0
) -> tuple[float, Interval]:
    """As paired_drop, with the percentile bootstrap over samples (Efron & Tibshirani, 1993, §13.3).

    A resample of pairs only changes how many disagree in which way, so the counts are drawn (multinomial), which is the same. It is for cross-checking: from
    some hundred disagreements on both agree; where the models never disagree it claims an interval of width 0, which no number of samples justifies.
    """
    n, only_a, only_b = _disagreements(correct_a, correct_b)
    shares = (only_a / n, only_b / n, (n - only_a - only_b) / n)
    counts = np.random.default_rng(seed).multinomial(n, shares, size=_RESAMPLES)
    drops = 100 * (counts[:, 0] - counts[:, 1]) / n
    tail = (1 - confidence) / 2
    low, high = np.quantile(drops, tail, method="lower"), np.quantile(drops, 1 - tail, method="higher")
    return 100 * (only_a - only_b) / n, (float(low), float(high))


def mcnemar_p(correct_a: ArrayLike, correct_b: ArrayLike) -> float:
    """McNemar's exact test: how likely so lopsided disagreements are if neither model is better; two-sided.

    McNemar, Psychometrika 12 (1947) 153–157, with exact binomial probabilities: of the samples on which only one model is right, each is
    a coin's toss. It asks whether accuracy changed at all, not by how much: `paired_drop` does. Never above its level (Fagerland, Lydersen & Laake,
    BMC Med. Res. Methodology 13 (2013) 91), at the price of power with few disagreements.
    """
    from scipy.stats import binom

    _, only_a, only_b = _disagreements(correct_a, correct_b)
    disagree = only_a + only_b
    return min(1.0, 2 * float(binom.cdf(min(only_a, only_b), disagree, 0.5))) if disagree else 1.0


def _disagreements(correct_a: ArrayLike, correct_b: ArrayLike) -> tuple[int, int, int]:
    """Samples, and on how many only a, only b was right. Raises ValueError unless both are as long and not empty."""
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"need two equally long, non-empty sequences, got shapes {a.shape} and {b.shape}")
    return len(a), int(np.sum(a & ~b)), int(np.sum(~a & b))
