"""Verdicts against a tolerance: FAIL, PASS or INCONCLUSIVE, from an interval; with one extension whose cost in errors is paid.

A verdict is a claim, and each kind can be wrong: FAIL says 'worse by more than the tolerance', PASS says 'not worse by as much as the tolerance'
(non-inferiority: ICH E9, 1998, §3.3.2; Piaggio and others, JAMA 308 (2012) 2594–2604). Between them nothing is claimed. Each error is
bounded by itself, so an interval with a tail of 2.5 % on each side serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from edgepack.stats.intervals import Interval

ERROR = 0.025
_STEPS = 2001


class Verdict(StrEnum):
    """What a gate says."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


def verdict_of(interval: Interval | None, limit: float) -> Verdict:
    """FAIL when all of the interval lies above the limit, PASS when all of it lies below, else INCONCLUSIVE (also without an interval).

    For a quantity that is better when it is lower: a ratio of times with the limit 1 + tolerance, a drop of accuracy with the largest drop.
    """
    if interval is None:
        return Verdict.INCONCLUSIVE
    low, high = interval
    if low > limit:
        return Verdict.FAIL
    return Verdict.PASS if high < limit else Verdict.INCONCLUSIVE


def verdict_of_value(value: float, limit: float) -> Verdict:
    """FAIL above a limit, else PASS: for what has no noise (bytes, a guest's instructions), where one run decides."""
    return Verdict.FAIL if value > limit else Verdict.PASS


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict over all: FAIL if one fails, PASS only if all pass.

    PASS needs no correction for their number, because all must pass (intersection–union test: Berger, Technometrics 24 (1982) 295–300). FAIL
    does: `benjamini_hochberg`.
    """
    for one in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        if one in verdicts:
            return one
    return Verdict.PASS


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Two looks at growing data: after `first` pairs, and, where that was inconclusive, after `total`.

    Looking twice at 2.5 % would err in up to 4 %. O'Brien and Fleming's bounds (Biometrics 35 (1979) 549–556) spend little at the first look, so the last one is
    nearly as strong as a single look: 0.26 % and 2.40 % for halves (Jennison & Turnbull, Group Sequential Methods, 2000, table 2.3), here solved for
    any first ÷ total. The defaults are even, so that as many rounds begin with A as with B. Simulated, a model that is slower by exactly
    the tolerance FAILs in 2 to 4 % and PASSes in 2 to 4 %, an equal one FAILs in ≤ 0.2 %, whatever the noise (`python -m benchmarks gate` prints it).
    """

    first: int = 8
    total: int = 14

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.total:
            raise ValueError(f"need 0 < first <= total, got {self.first} and {self.total}")

    @property
    def confidences(self) -> tuple[float, float]:
        """Of the two-sided interval at each look; the same when there is only one."""
        first, last = obrien_fleming(self.first, self.total)
        return 1 - 2 * first, 1 - 2 * last


@lru_cache(maxsize=64)
def obrien_fleming(first: int, total: int, *, error: float = ERROR) -> tuple[float, float]:
    """One-sided levels of two looks that together err in at most `error` of cases, for test statistics that are jointly normal.

    The bounds are c √(total ÷ first) and c, with the c that makes it so: bisection over the bivariate normal distribution, whose correlation is
    √(first ÷ total). With first = total there is one look, at `error`.
    """
    if first == total:
        return error, error
    share = first / total
    low, high = NormalDist().inv_cdf(1 - error), NormalDist().inv_cdf(1 - error / 2)
    for _ in range(50):
        middle = (low + high) / 2
        if _crossing(middle / share**0.5, middle, share**0.5) > error:
            low = middle
        else:
            high = middle
    return 1 - NormalDist().cdf(high / share**0.5), 1 - NormalDist().cdf(high)


def _crossing(first_bound: float, last_bound: float, correlation: float) -> float:
    """How likely at least one of two correlated standard normal values is above its bound."""
    normal = NormalDist()
    values = np.linspace(-8, first_bound, _STEPS)
    rest = (1 - correlation**2) ** 0.5
    stays = [normal.pdf(value) * normal.cdf((last_bound - correlation * value) / rest) for value in values.tolist()]
    return 1 - float(np.trapezoid(stays, values))


def pairs_to_decide(interval: Interval, value: float, limit: float, *, pairs: int) -> int | None:
    """About how many pairs would decide, if runs go on to differ as they did: an interval shrinks with the root of their number.

    None when the value is so near the limit that more than 20 times as many would be needed: another tolerance, or a quieter machine.
    """
    low, high = interval
    distance = abs(value - limit)
    half = (value - low) if value > limit else (high - value)
    if half <= 0 or distance * 20**0.5 < half:
        return None
    return max(pairs + 1, round(pairs * (half / distance) ** 2))
