"""One method alone against the best combination, at the size of the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.tune.budget import Budget
from edgepack.tune.front import Row
from edgepack.tune.space import methods_in

ROUNDING = "rounding alone"
TOGETHER = "several methods"


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best trial of a kind: `of` is a method with at most rounding beside it, ROUNDING, or TOGETHER. `fits`: it keeps every limit but that of the loss;
    where no trial of its kind did, it is the one that came nearest."""

    of: str
    row: Row
    fits: bool


def compared(rows: Sequence[Row], budget: Budget) -> tuple[Best, ...]:
    """The best combination of several methods, then the best of each method alone; of kinds that were tried. A fully trained trial goes before one that was
    trained a little."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(_kind(row), []).append(row)
    found = [_best(kind, members, budget) for kind, members in kinds.items()]
    return tuple(sorted(found, key=lambda best: (best.of != TOGETHER, not best.fits, best.row.numbers.drop_points)))


def _kind(row: Row) -> str:
    methods = methods_in(row.trial.steps)
    return ROUNDING if not methods else next(iter(methods)) if len(methods) == 1 else TOGETHER


def _best(kind: str, rows: Sequence[Row], budget: Budget) -> Best:
    fitting = [row for row in rows if not _over(row, budget)]
    if fitting:
        order = min(fitting, key=lambda row: (-row.trial.rung, row.numbers.drop_points, budget.size(row.numbers)))
        return Best(of=kind, row=order, fits=True)
    return Best(of=kind, row=min(rows, key=lambda row: (_over(row, budget), row.numbers.drop_points)), fits=False)


def _over(row: Row, budget: Budget) -> float:
    """By how much a trial exceeds the limits, without that of the loss."""
    over = budget.constraints(row.numbers)
    return sum(max(0.0, share) for name, share in over.items() if name != "drop_points")
