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


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [
        # Newcombe, Stat. in Medicine 17 (1998) 857–872, table I, method 3.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_agrees_with_published_values(successes: int, n: int, expected: tuple[float, float]) -> None:
    assert stats.binomial_ci(successes, n) == pytest.approx(expected, abs=5e-5)


def test_wilson_is_symmetric_and_stays_within_0_and_1() -> None:
    low, high = stats.binomial_ci(20, 20)

    assert high == 1.0
    assert low == pytest.approx(1 - stats.binomial_ci(0, 20)[1])


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        stats.binomial_ci(successes, n)


def test_paired_drop_by_hand() -> None:
    a = [True] * 8 + [False] * 13  # of 21: both 1, only a 7, only b 1, none 12
    b = [True] + [False] * 7 + [True] + [False] * 12

    drop, interval = stats.paired_drop(a, b)

    # (8 − 2)/23 ± 1.96 √(((8 + 2)/23 − (6/23)²)/23)
    assert drop == pytest.approx(100 * 6 / 21)
    assert interval == pytest.approx((100 * 0.01341, 100 * 0.50833), abs=0.01)


def test_paired_drop_turns_its_sign_with_its_arguments() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random(200) < 0.9, generator.random(200) < 0.8

    drop, (low, high) = stats.paired_drop(a, b)
    back, (back_low, back_high) = stats.paired_drop(b, a)

    assert back == -drop
    assert (back_low, back_high) == pytest.approx((-high, -low))


def test_equal_models_have_no_drop_but_still_an_interval() -> None:
    drop, (low, high) = stats.paired_drop([True, False] * 100, [True, False] * 100)

    assert drop == 0
    assert low == -high < 0


@pytest.mark.parametrize(("n", "only_a", "only_b"), [(100, 0.05, 0.04), (300, 0.03, 0.01), (1000, 0.01, 0.01)])
def test_paired_drop_covers_about_95_percent(n: int, only_a: float, only_b: float) -> None:
    generator = np.random.default_rng(0)
    truth, covered, repetitions = 100 * (only_a - only_b), 0, 3000

    for _ in range(repetitions):
        outcome = generator.choice(3, size=n, p=[only_a, only_b, 1 - only_a - only_b])
        _, (low, high) = stats.paired_drop(outcome != 1, outcome != 0)
        covered += low <= truth <= high

    assert 0.94 <= covered / repetitions <= 0.985


@pytest.mark.parametrize(("a", "b"), [([], []), ([True], [True, False])])
def test_unpaired_answers_are_refused(a: list[bool], b: list[bool]) -> None:
    with pytest.raises(ValueError, match="equally long"):
        stats.paired_drop(a, b)


def test_mean_interval_covers_about_95_percent() -> None:
    generator = np.random.default_rng(0)

    intervals = [stats.mean_ci(generator.normal(3, 2, size=5)) for _ in range(3000)]

    assert 0.94 <= np.mean([low <= 3 <= high for low, high in filter(None, intervals)]) <= 0.96


def test_mean_interval_by_hand_and_of_one_value() -> None:
    # t(0.975, 4) = 2.7764, standard deviation √2.5
    assert stats.mean_ci([1, 2, 3, 4, 5]) == pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-3)
    assert stats.mean_ci([1]) is None


def test_ratio_ignores_what_slows_both_models_of_a_round() -> None:
    b = np.array([10.0, 14.0, 9.0, 30.0, 11.0])

    ratio = stats.ratio_of_paired_medians(2 * b, b)

    assert (ratio.value, ratio.ci95, ratio.pairs) == (2.0, (2.0, 2.0), 5)


def test_ratio_of_few_pairs_claims_no_interval() -> None:
    assert stats.ratio_of_paired_medians([2, 2, 2, 2], [1, 1, 1, 1]).ci95 is None


def test_ratio_is_deterministic() -> None:
    a, b = np.random.default_rng(0).lognormal(0, 0.1, (2, 12))

    assert stats.ratio_of_paired_medians(a, b) == stats.ratio_of_paired_medians(a, b)


@pytest.mark.parametrize(("a", "b"), [([1, 2], [1]), ([1, 0], [1, 1])])
def test_ratio_refuses_what_is_no_pair_of_times(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs of positive"):
        stats.ratio_of_paired_medians(a, b)


@pytest.mark.parametrize(("pairs", "least"), [(5, 0.90), (10, 0.90), (15, 0.92)])
def test_ratio_interval_covers_as_its_docstring_says(pairs: int, least: float) -> None:
    generator, covered, repetitions = np.random.default_rng(0), 0, 300

    for _ in range(repetitions):
        day = generator.lognormal(0, 0.2, pairs)
        a, b = 1.1 * day * generator.lognormal(0, 0.05, pairs), day * generator.lognormal(0, 0.05, pairs)
        interval = stats.ratio_of_paired_medians(a, b).ci95
        assert interval is not None
        covered += interval[0] <= 1.1 <= interval[1]

    assert least <= covered / repetitions <= 0.98


def test_equal_models_are_rarely_called_3_percent_slower() -> None:
    generator, alarms = np.random.default_rng(0), 0

    for _ in range(200):
        a, b = generator.lognormal(0, 0.03, (2, 10))
        interval = stats.ratio_of_paired_medians(a, b).ci95
        assert interval is not None
        alarms += interval[0] > 1.03

    assert alarms <= 2


def test_importing_it_does_not_import_scipy() -> None:
    code = "import sys, edgepack.stats, edgepack.bench, edgepack.devices; print(*sys.modules)"

    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"scipy", "torch", "ai_edge_litert"} & set(modules)
