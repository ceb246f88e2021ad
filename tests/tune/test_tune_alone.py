"""Each method alone is compared with the best combination at the budget's size."""

from __future__ import annotations

from edgepack.recipe import CompressStep, TuneSection
from edgepack.tune.alone import ROUNDING, TOGETHER, compared
from edgepack.tune.budget import budget_of
from edgepack.tune.front import LAST, rows_of
from edgepack.tune.numbers import Numbers
from edgepack.tune.study import Trial

BUDGET = budget_of(TuneSection.model_validate({"max_size": 100, "max_drop_points": 1.0}))
STEPS = {
    "q": {"method": "quantize", "mode": "ptq"},
    "m": {"method": "prune_magnitude", "sparsity": 0.5},
    "e": {"method": "prune_entropy", "sparsity": 0.5},
    "s": {"method": "sort_channels"},
}


def trial(number: int, methods: str, size: int, drop: float, rung: int = LAST) -> Trial:
    numbers = Numbers(wire_bytes=size, file_bytes=size, accuracy=0.9, drop_points=drop)
    steps = tuple(CompressStep.model_validate(STEPS[name]) for name in methods)
    return Trial(number=number, state="done", steps=steps, rungs={rung: numbers}, error="")


def test_the_best_of_each_kind_that_fits_is_shown_with_the_combination_first() -> None:
    trials = [
        trial(0, "q", 300, 0.0),
        trial(1, "mq", 95, 2.0),
        trial(2, "mq", 90, 1.5, rung=0),
        trial(3, "eq", 99, 0.9),
        trial(4, "eq", 120, 0.1),
        trial(5, "esq", 98, 0.5),
    ]

    found = compared(rows_of(trials, BUDGET), BUDGET)

    assert [(best.of, best.row.trial.number, best.fits) for best in found] == [
        (TOGETHER, 5, True),
        ("prune_entropy", 3, True),
        ("prune_magnitude", 1, True),  # fully trained goes before better
        (ROUNDING, 0, False),
    ]
