from __future__ import annotations

import numpy as np
import pytest

from edgepack import stats
from edgepack.stats import Looks, Verdict


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((1.04, 1.08), Verdict.FAIL),
        ((0.98, 1.02), Verdict.PASS),
        ((0.90, 0.95), Verdict.PASS),
        ((1.00, 1.05), Verdict.INCONCLUSIVE),
        ((1.03, 1.05), Verdict.INCONCLUSIVE),
        (None, Verdict.INCONCLUSIVE),
    ],
)
def test_an_interval_decides_only_when_all_of_it_is_on_one_side(
    interval: tuple[float, float] | None, verdict: Verdict
) -> None:
    assert stats.verdict_of(interval, 1.03) is verdict


def test_a_value_without_noise_fails_above_its_limit_only() -> None:
    assert stats.verdict_of_value(100, 100) is Verdict.PASS
    assert stats.verdict_of_value(101, 100) is Verdict.FAIL


def test_all_must_pass_and_one_may_fail() -> None:
    one, other, third = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE

    assert stats.worst([one, other, third]) is Verdict.FAIL
    assert stats.worst([one, third]) is Verdict.INCONCLUSIVE
    assert stats.worst([one, one]) is Verdict.PASS


def test_obrien_and_flemings_levels_are_the_published_ones() -> None:
    """Jennison & Turnbull (2000), table 2.3: two looks at 5 % two-sided, C = 1.977."""
    first, last = stats.obrien_fleming(5, 10)

    assert (first, last) == pytest.approx((0.00258, 0.02402), abs=5e-5)


def test_one_look_spends_the_whole_error() -> None:
    assert stats.obrien_fleming(10, 10) == (0.025, 0.025)
    assert Looks(first=6, total=6).confidences == (0.95, 0.95)


@pytest.mark.parametrize(("first", "total"), [(8, 14), (5, 10), (12, 15)])
def test_two_looks_together_err_as_often_as_promised(first: int, total: int) -> None:
    steps = np.random.default_rng(0).normal(0, 1, (200_000, total))
    levels = stats.obrien_fleming(first, total)
    sums = np.cumsum(steps, axis=1)
    from scipy.stats import norm

    at_first = sums[:, first - 1] / first**0.5 > norm.isf(levels[0])
    at_last = sums[:, -1] / total**0.5 > norm.isf(levels[1])

    assert np.mean(at_first | at_last) == pytest.approx(0.025, abs=0.001)


@pytest.mark.parametrize(("first", "total"), [(0, 5), (6, 5)])
def test_looks_in_the_wrong_order_are_refused(first: int, total: int) -> None:
    with pytest.raises(ValueError, match="0 < first <= total"):
        Looks(first=first, total=total)


def verdict(log_ratios: np.ndarray[tuple[int], np.dtype[np.float64]], limit: float, looks: Looks = Looks()) -> Verdict:  # noqa: B008
    """What a gate does with two looks."""
    found = Verdict.INCONCLUSIVE
    for pairs, confidence in zip((looks.first, looks.total), looks.confidences, strict=True):
        found = stats.verdict_of(stats.median_interval(np.exp(log_ratios[:pairs]), confidence=confidence), limit)
        if found is not Verdict.INCONCLUSIVE:
            break
    return found


@pytest.mark.parametrize("noise", ["normal", "bursts"])
def test_the_two_looks_err_as_seldom_as_their_docstring_says(noise: str) -> None:
    generator, repetitions = np.random.default_rng(0), 600
    draws = generator.normal(0, 0.05, (repetitions, 14))
    if noise == "bursts":
        draws = np.where(generator.random(draws.shape) < 0.15, 5 * draws, draws / 2)

    equal = [verdict(row, 1.03) for row in draws]
    edge = [verdict(row + np.log(1.03), 1.03) for row in draws]
    slower = [verdict(row + np.log(1.1), 1.03) for row in draws]

    assert equal.count(Verdict.FAIL) / repetitions <= 0.01
    assert edge.count(Verdict.FAIL) / repetitions <= 0.055
    assert edge.count(Verdict.PASS) / repetitions <= 0.055
    assert slower.count(Verdict.FAIL) / repetitions >= 0.9
    assert slower.count(Verdict.PASS) == 0


def test_how_many_more_pairs_would_decide() -> None:
    assert stats.pairs_to_decide((1.00, 1.06), 1.02, 1.03, pairs=10) == 160
    assert stats.pairs_to_decide((1.02, 1.10), 1.06, 1.03, pairs=9) == 16
    assert stats.pairs_to_decide((1.00, 1.06), 1.03, 1.03, pairs=10) is None
