"""Statistics of measurements and of accuracies: pure, deterministic functions, each with its source. docs/statistics.md tells how they decide.

Intervals are two-sided and hold the true value in about 95 % of repetitions. SciPy is imported where it is used, so
that commands that need no statistics don't pay for it.
"""

from __future__ import annotations

from edgepack.stats.classes import ClassScore, class_score, class_score_ci, class_score_drop
from edgepack.stats.decisions import (
    ERROR,
    Looks,
    Verdict,
    obrien_fleming,
    pairs_to_decide,
    verdict_of,
    verdict_of_value,
    worst,
)
from edgepack.stats.intervals import CONFIDENCE, Interval
from edgepack.stats.latency import (
    P90_SAMPLES_MIN,
    P99_SAMPLES_MIN,
    LatencySummary,
    mean_ci,
    quantile_ci,
    summary_ms,
)
from edgepack.stats.proportions import binomial_ci, bootstrap_drop, mcnemar_p, paired_drop
from edgepack.stats.ranks import benjamini_hochberg, rank_sum_p, signed_rank_p
from edgepack.stats.ratios import (
    PAIRS_MIN,
    Ratio,
    median_interval,
    paired_ratios,
    ratio_of_paired_medians,
    ratio_of_unpaired_medians,
)

__all__ = [
    "CONFIDENCE",
    "ERROR",
    "P90_SAMPLES_MIN",
    "P99_SAMPLES_MIN",
    "PAIRS_MIN",
    "ClassScore",
    "Interval",
    "LatencySummary",
    "Looks",
    "Ratio",
    "Verdict",
    "benjamini_hochberg",
    "binomial_ci",
    "bootstrap_drop",
    "class_score",
    "class_score_ci",
    "class_score_drop",
    "mcnemar_p",
    "mean_ci",
    "median_interval",
    "obrien_fleming",
    "paired_drop",
    "paired_ratios",
    "pairs_to_decide",
    "quantile_ci",
    "rank_sum_p",
    "ratio_of_paired_medians",
    "ratio_of_unpaired_medians",
    "signed_rank_p",
    "summary_ms",
    "verdict_of",
    "verdict_of_value",
    "worst",
]
