"""A budget says what is over it, and which of two combinations is better."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edgepack.core.errors import RecipeError
from edgepack.recipe import TuneSection
from edgepack.tune.budget import Budget, budget_of
from edgepack.tune.numbers import Numbers


def budget(**limits: Any) -> Budget:
    return budget_of(TuneSection.model_validate(limits))


def numbers(**given: Any) -> Numbers:
    return Numbers(**{"wire_bytes": 50_000, "file_bytes": 90_000, "accuracy": 0.9, "drop_points": 0.5, **given})


def test_a_budget_is_written_with_units() -> None:
    assert budget(max_size="60 kB").size_bytes == 60_000


def test_the_size_is_that_of_the_wire_form_unless_the_file_is_asked_for() -> None:
    assert budget(max_size="60 kB").shortfalls(numbers()) == ()

    (over,) = budget(max_size="60 kB", size_of="file").shortfalls(numbers())

    assert (over.name, over.value, over.limit, over.share_over) == ("size_bytes", 90_000, 60_000, 0.5)


def test_no_budget_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"no budget to search for; give max_size"):
        budget_of(TuneSection())


@pytest.mark.parametrize(
    "limits", [{"max_size": 0}, {"max_size": "-1 kB"}, {"max_drop_points": -0.1}, {"max_memory": 0}]
)
def test_an_impossible_limit_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TuneSection.model_validate(limits)


def test_what_is_less_over_the_budget_is_better_and_within_it_what_loses_less() -> None:
    both = budget(max_size=60_000, max_drop_points=1.0)
    within = numbers(drop_points=0.9)
    better = numbers(drop_points=0.2, wire_bytes=59_000)
    far, near = numbers(wire_bytes=90_000, drop_points=0.0), numbers(wire_bytes=61_000, drop_points=0.0)

    assert sorted([far, within, near, better], key=both.rank) == [better, within, near, far]


def test_where_only_the_loss_is_limited_the_smallest_is_best() -> None:
    small, exact = numbers(wire_bytes=10, drop_points=0.9), numbers(wire_bytes=20, drop_points=0.0)

    assert min([exact, small], key=budget(max_drop_points=1.0).rank) is small


def test_latency_is_an_aim_only_when_it_is_limited() -> None:
    timed = numbers(latency_p50_ms=3.0)

    assert budget(max_size=60_000).objectives(timed) == (50_000.0, 0.5)
    assert budget(max_latency_p50_ms=2.0).objectives(timed) == (50_000.0, 0.5, 3.0)
    assert [str(over) for over in budget(max_latency_p50_ms=2.0).shortfalls(timed)] == ["latency_p50_ms = 3, limit 2"]
