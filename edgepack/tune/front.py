"""The Pareto front of a search, and which of its combinations are worth the final judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.recipe import CompressStep
from edgepack.tune.budget import Budget
from edgepack.tune.ladder import RUNGS
from edgepack.tune.numbers import Numbers
from edgepack.tune.space import in_words
from edgepack.tune.study import Trial

LAST = len(RUNGS) - 1
_LOSING_MAX = 3.0  # times the points that may be lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A trial with its numbers. `on_front`: no other that was trained as long is at least as good in everything and better in something.

    `over` is what it exceeds the budget by, in words; '' where it keeps it.
    """

    trial: Trial
    numbers: Numbers
    share: float
    words: str
    over: str
    on_front: bool

    @property
    def keeps_budget(self) -> bool:
        """Whether it keeps every limit on the samples that trials are judged on."""
        return not self.over


def rows_of(trials: Sequence[Trial], budget: Budget) -> tuple[Row, ...]:
    """Every trial that has numbers; the fully trained ones first, each group by how good it is for the budget."""
    known = [(trial, numbers) for trial in trials if (numbers := trial.numbers) is not None]
    goods = {trial.number: budget.objectives(numbers) for trial, numbers in known if trial.rung == LAST}
    rows = [
        Row(
            trial=trial,
            numbers=numbers,
            share=RUNGS[trial.rung],
            words=in_words(trial.steps),
            over="; ".join(map(str, budget.shortfalls(numbers))),
            on_front=trial.number in goods and not _is_beaten(trial.number, goods),
        )
        for trial, numbers in known
    ]
    return tuple(sorted(rows, key=lambda row: (-row.trial.rung, budget.rank(row.numbers), row.trial.number)))


def candidates(rows: Sequence[Row], budget: Budget) -> tuple[Row, ...]:
    """What the final judgement is worth, best first; of equal combinations one. Those that keep the budget; then those that lose too many points and keep the
    rest: the samples that trials are judged on may be ones that the original knows too well, and a short training says little of a full one."""
    worth = [row for row in rows if row.keeps_budget or _loses_only(row, budget)]
    worth.sort(key=lambda row: (-row.trial.rung, not row.keeps_budget))  # each group stays in the order of its rank
    first: dict[tuple[CompressStep, ...], Row] = {}
    for row in worth:
        first.setdefault(row.trial.steps, row)
    return tuple(first.values())


def _loses_only(row: Row, budget: Budget) -> bool:
    names = [over.name for over in budget.shortfalls(row.numbers)]
    return names == ["drop_points"] and row.numbers.drop_points <= _LOSING_MAX * (budget.drop_points or 0.0)


def _is_beaten(number: int, goods: dict[int, tuple[float, ...]]) -> bool:
    mine = goods[number]
    return any(theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True)) for theirs in goods.values())
