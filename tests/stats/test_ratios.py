from __future__ import annotations

import numpy as np
import pytest

from edgepack import stats


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


@pytest.mark.parametrize("n", [5, 8, 15])
def test_the_resampled_medians_are_those_of_the_plain_bootstrap(n: int) -> None:
    """Their places are drawn from the order statistics' distribution; drawing whole resamples gives the same quantiles."""
    values = np.random.default_rng(1).lognormal(0, 0.1, n)
    picks = np.random.default_rng(2).integers(0, n, (200_000, n))
    plain = np.median(values[picks], axis=1)

    for confidence in (0.8, 0.95):
        low, high = stats.median_interval(values, confidence=confidence)
        assert np.mean(plain < low) <= (1 - confidence) / 2 + 0.01
        assert np.mean(plain <= low) >= (1 - confidence) / 2 - 0.01
        assert np.mean(plain > high) <= (1 - confidence) / 2 + 0.01
        assert np.mean(plain >= high) >= (1 - confidence) / 2 - 0.01


def test_the_interval_does_not_depend_on_the_order_of_the_pairs() -> None:
    values = np.random.default_rng(0).lognormal(0, 0.1, 12)

    assert stats.median_interval(values) == stats.median_interval(values[::-1])


def test_a_thousand_runs_are_no_slower_than_ten() -> None:
    """A device's whole history is compared in milliseconds: 300 devices in a second or two."""
    low, high = stats.median_interval(np.random.default_rng(0).normal(10, 1, 1001))

    assert 9.8 < low < high < 10.2
    assert high - low == pytest.approx(2 * 1.96 * 1.2533 / 1001**0.5, rel=0.25)


@pytest.mark.parametrize("runs", [5, 15])
def test_the_ratio_of_runs_that_were_not_interleaved_covers_as_its_docstring_says(runs: int) -> None:
    generator, covered, repetitions = np.random.default_rng(0), 0, 600

    for _ in range(repetitions):
        interval = stats.ratio_of_unpaired_medians(
            1.1 * generator.lognormal(0, 0.05, runs), generator.lognormal(0, 0.05, runs)
        ).ci95
        assert interval is not None
        covered += interval[0] <= 1.1 <= interval[1]

    assert 0.92 <= covered / repetitions <= 0.985


def test_an_unpaired_ratio_of_few_runs_claims_no_interval() -> None:
    ratio = stats.ratio_of_unpaired_medians([2.0] * 4, [1.0] * 9)

    assert (ratio.value, ratio.ci95, ratio.pairs) == (2.0, None, 4)
