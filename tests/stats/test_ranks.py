from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import false_discovery_control, mannwhitneyu, wilcoxon

from edgepack import stats


@pytest.mark.parametrize("n", [1, 5, 8, 15, 40, 60])
def test_signed_ranks_agree_with_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, n)

    expected = wilcoxon(values, alternative="greater", method="exact").pvalue

    assert stats.signed_rank_p(values) == pytest.approx(expected, rel=1e-9)


def test_signed_ranks_with_ties_count_every_sign() -> None:
    values = np.array([1.0, 1.0, -1.0, 2.0, 2.0, 3.0])
    ranks = np.array([2.0, 2.0, 2.0, 4.5, 4.5, 6.0])
    seen = ranks[values > 0].sum()

    sums = [ranks[np.array(signs)].sum() for signs in itertools.product([False, True], repeat=6)]

    assert stats.signed_rank_p(values) == pytest.approx(np.mean([one >= seen for one in sums]))


def test_signed_ranks_of_many_pairs_are_nearly_exact() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 200)

    assert stats.signed_rank_p(values) == pytest.approx(wilcoxon(values, alternative="greater").pvalue, rel=0.02)


def test_signed_ranks_can_not_be_smaller_than_the_signs_allow() -> None:
    assert stats.signed_rank_p([1, 2, 3, 4, 5, 6, 7, 8]) == 0.5**8
    assert stats.signed_rank_p([0, 0]) == 1.0


def test_signed_ranks_keep_their_level_in_an_a_a_benchmark_with_wild_noise() -> None:
    generator = np.random.default_rng(0)
    runs = np.exp(generator.gamma(0.5, 0.1, (2, 4000, 10)))
    differences = np.log(runs[0] / runs[1])

    alarms = np.mean([stats.signed_rank_p(row) <= 0.05 for row in differences])

    assert 0.03 <= alarms <= 0.055


def test_rank_sums_agree_with_scipy() -> None:
    a, b = np.random.default_rng(0).normal(0, 1, (2, 8))

    assert stats.rank_sum_p(a, b) == mannwhitneyu(a, b, alternative="greater").pvalue


def test_benjamini_and_hochbergs_own_example() -> None:
    """1995, section 3: of 15 hypotheses the first four are rejected at 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]

    q = stats.benjamini_hochberg(p)

    assert sum(one <= 0.05 for one in q) == 4
    assert q == pytest.approx(false_discovery_control(p))


def test_adjusted_values_keep_the_order_given() -> None:
    p = np.random.default_rng(0).random(50)

    assert stats.benjamini_hochberg(p) == pytest.approx(false_discovery_control(p))
    assert stats.benjamini_hochberg([]) == ()


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="p-values lie in"):
        stats.benjamini_hochberg([0.5, 1.5])


def test_of_the_devices_called_slower_few_are_not() -> None:
    """30 devices, 5 of them truly 12 % slower, tolerance 3 %, 14 pairs with 5 % noise: false discoveries stay below 5 %, most true ones are found."""
    generator, false_shares, found = np.random.default_rng(0), [], 0

    for _ in range(100):
        truth = np.array([0.12] * 5 + [0.0] * 25)
        p = [stats.signed_rank_p(np.log1p(one) - np.log(1.03) + generator.normal(0, 0.05, 14)) for one in truth]
        called = np.array(stats.benjamini_hochberg(p)) <= 0.05
        false_shares.append(called[5:].sum() / max(1, called.sum()))
        found += int(called[:5].sum())

    assert np.mean(false_shares) <= 0.05
    assert found / 500 >= 0.85
