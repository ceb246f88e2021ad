from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from edgepack import stats


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


def answers(n: int, only_a: int, only_b: int) -> tuple[list[bool], list[bool]]:
    both = n - only_a - only_b
    return [True] * only_a + [False] * only_b + [True] * both, [False] * only_a + [True] * only_b + [True] * both


@pytest.mark.parametrize(("only_a", "only_b"), [(10, 2), (2, 10), (5, 5), (1, 0), (30, 12), (400, 350)])
def test_mcnemar_is_the_exact_binomial_test_of_the_disagreements(only_a: int, only_b: int) -> None:
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue

    assert stats.mcnemar_p(*answers(1000, only_a, only_b)) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_models_that_never_disagree_finds_nothing() -> None:
    assert stats.mcnemar_p(*answers(100, 0, 0)) == 1.0


def test_mcnemar_raises_a_false_alarm_in_at_most_5_percent() -> None:
    generator, alarms = np.random.default_rng(0), 0

    for _ in range(2000):
        outcome = generator.choice(3, size=500, p=[0.02, 0.02, 0.96])
        alarms += stats.mcnemar_p(outcome != 1, outcome != 0) <= 0.05

    assert alarms / 2000 <= 0.05


def test_the_bootstrap_of_a_drop_agrees_with_the_formula_where_there_are_many_disagreements() -> None:
    a, b = answers(5000, 300, 200)

    drop, (low, high) = stats.bootstrap_drop(a, b)

    assert drop == stats.paired_drop(a, b)[0] == 2.0
    assert (low, high) == pytest.approx(stats.paired_drop(a, b)[1], abs=0.05)


def test_the_bootstrap_of_a_drop_can_not_judge_models_that_never_disagree() -> None:
    assert stats.bootstrap_drop(*answers(100, 0, 0))[1] == (0, 0)
    low, high = stats.paired_drop(*answers(100, 0, 0))[1]
    assert low < 0 < high
