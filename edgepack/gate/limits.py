"""What a gate asks: metrics with their tolerances, the largest drop of accuracy, and how many pairs each look has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgepack.compare import EXACT, tolerance_of
from edgepack.core.errors import UsageError
from edgepack.stats import PAIRS_MIN, Looks

DEFAULT_METRIC = "latency_p50_ms"
_MEMORY_ROUNDS = 3  # the median of three: one process may be some hundred kB off


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`tolerances` are shares by metric, in the order asked. `max_drop_points` None: accuracy isn't asked."""

    tolerances: dict[str, float] = field(default_factory=dict)
    max_drop_points: float | None = None
    looks: Looks = field(default_factory=Looks)

    @property
    def noisy(self) -> tuple[str, ...]:
        """The metrics that need pairs of runs."""
        return tuple(one for one in self.tolerances if one not in EXACT)

    @property
    def rounds(self) -> int:
        """Rounds at the first look: pairs for what is noisy, three for memory, one for what is exact."""
        if self.noisy:
            return self.looks.first
        return _MEMORY_ROUNDS if any("memory" in one for one in self.tolerances) else 1

    @property
    def only_size(self) -> bool:
        """Whether the files alone answer."""
        return set(self.tolerances) == {"size_bytes"} and self.max_drop_points is None


def limits_of(
    metrics: Sequence[str],
    tolerances: Sequence[float],
    *,
    max_drop_points: float | None = None,
    pairs: int | None = None,
    max_pairs: int | None = None,
) -> Limits:
    """Limits as a command line gives them: one tolerance for all metrics or one each, in their order; none means each metric's own.

    Without a metric and without a drop of accuracy it is the p50 latency. Raises UsageError.
    """
    names = list(metrics) or ([] if max_drop_points is not None else [DEFAULT_METRIC])
    if "accuracy" in names:
        raise UsageError("accuracy: it is judged in points: give --max-drop-points 0.5 in place of --metric accuracy")
    if len(set(names)) < len(names):
        raise UsageError(f"each metric once, got {', '.join(names)}")
    if len(tolerances) not in (0, 1, len(names)):
        raise UsageError(
            f"{len(tolerances)} tolerances for {len(names)} metrics: give one for all, or one each in order"
        )
    given = list(tolerances) * len(names) if len(tolerances) == 1 else list(tolerances)
    known = [tolerance_of(name) for name in names]
    return Limits(
        tolerances=dict(zip(names, given or known, strict=True)),
        max_drop_points=max_drop_points,
        looks=_looks(pairs, max_pairs),
    )


def _looks(pairs: int | None, max_pairs: int | None) -> Looks:
    usual = Looks()
    first = usual.first if pairs is None else pairs
    extended = round(first * usual.total / usual.first / 2) * 2  # even, so that both orders come as often
    total = extended if max_pairs is None else max_pairs
    if first < PAIRS_MIN:
        raise UsageError(f"{first} pairs can't decide: an interval needs at least {PAIRS_MIN}")
    if total < first:
        raise UsageError(f"at most {total} pairs, but {first} at the first look: raise --max-pairs or lower --pairs")
    return Looks(first=first, total=total)
