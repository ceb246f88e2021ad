from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binom

from edgepack import stats


def test_summary_turns_nanoseconds_into_milliseconds() -> None:
    summary = stats.summary_ms(np.arange(1, 102) * 1_000_000)

    assert (summary.n, summary.min_ms, summary.p50_ms, summary.p90_ms, summary.mean_ms) == (101, 1, 51, 91, 51)


@pytest.mark.parametrize(("n", "has_p99"), [(661, False), (662, True)])
def test_a_p99_needs_662_samples(n: int, has_p99: bool) -> None:
    assert (stats.summary_ms(np.arange(1, n + 1)).p99_ms is not None) is has_p99


def test_no_samples_have_no_summary() -> None:
    with pytest.raises(ValueError, match="no samples"):
        stats.summary_ms([])


@pytest.mark.parametrize("quantile", [0.5, 0.9])
@pytest.mark.parametrize("n", [6, 10, 36, 50, 64, 1000])
def test_quantile_interval_covers_at_least_95_percent_exactly(n: int, quantile: float) -> None:
    interval = stats.quantile_ci(np.arange(1, n + 1), quantile)

    if interval is None:
        # Not even the largest rank will do.
        assert binom.cdf(n - 1, n, quantile) < 0.975 or binom.cdf(0, n, quantile) > 0.025
    else:
        low, high = interval
        coverage = binom.cdf(high - 1, n, quantile) - binom.cdf(low - 1, n, quantile)
        assert 0.95 <= coverage <= 0.98


@pytest.mark.parametrize(("quantile", "least"), [(0.5, 6), (0.9, 36)])
def test_quantile_interval_needs_enough_samples(quantile: float, least: int) -> None:
    assert stats.quantile_ci(np.arange(least - 1), quantile) is None
    assert stats.quantile_ci(np.arange(least), quantile) is not None


def test_mean_interval_covers_about_95_percent() -> None:
    generator = np.random.default_rng(0)

    intervals = [stats.mean_ci(generator.normal(3, 2, size=5)) for _ in range(3000)]

    assert 0.94 <= np.mean([low <= 3 <= high for low, high in filter(None, intervals)]) <= 0.96


def test_mean_interval_by_hand_and_of_one_value() -> None:
    # t(0.975, 4) = 2.7764, standard deviation √2.5
    assert stats.mean_ci([1, 2, 3, 4, 5]) == pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-3)
    assert stats.mean_ci([1]) is None


def test_importing_it_does_not_import_scipy() -> None:
    code = "import sys, edgepack.stats, edgepack.bench, edgepack.devices; print(*sys.modules)"

    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"scipy", "torch", "ai_edge_litert"} & set(modules)
