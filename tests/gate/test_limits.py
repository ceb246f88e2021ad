from __future__ import annotations

from typing import Any

import pytest

from edgepack.core.errors import UsageError
from edgepack.gate import limits_of
from edgepack.stats import Looks


def test_without_a_metric_it_is_the_latency_with_8_and_14_pairs() -> None:
    limits = limits_of([], [])

    assert limits.tolerances == {"latency_p50_ms": 0.03}
    assert (limits.rounds, limits.looks) == (8, Looks(first=8, total=14))


def test_one_tolerance_is_for_all_and_several_are_in_order() -> None:
    names = ["latency_p50_ms", "size_bytes"]

    assert limits_of(names, [0.05]).tolerances == {"latency_p50_ms": 0.05, "size_bytes": 0.05}
    assert limits_of(names, [0.05, 0.0]).tolerances == {"latency_p50_ms": 0.05, "size_bytes": 0.0}
    assert limits_of(names, []).tolerances == {"latency_p50_ms": 0.03, "size_bytes": 0.01}


@pytest.mark.parametrize(
    ("metrics", "rounds"),
    [(["guest_instructions"], 1), (["size_bytes", "peak_memory_bytes"], 3), (["load_ms", "size_bytes"], 8)],
)
def test_what_has_no_noise_needs_one_run(metrics: list[str], rounds: int) -> None:
    assert limits_of(metrics, []).rounds == rounds


def test_only_a_drop_of_accuracy_asks_for_no_latency() -> None:
    limits = limits_of([], [], max_drop_points=0.5)

    assert (limits.tolerances, limits.rounds, limits.only_size) == ({}, 1, False)


@pytest.mark.parametrize(("pairs", "total"), [(5, 8), (8, 14), (10, 18), (20, 36)])
def test_the_extension_is_even(pairs: int, total: int) -> None:
    assert limits_of([], [], pairs=pairs).looks == Looks(first=pairs, total=total)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"metrics": ["latency"]}, "unknown metric 'latency'"),
        ({"metrics": ["accuracy"]}, "--max-drop-points"),
        ({"metrics": ["load_ms", "load_ms"]}, "each metric once"),
        ({"metrics": ["load_ms"], "tolerances": [0.1, 0.2]}, "2 tolerances for 1 metrics"),
        ({"pairs": 4}, "at least 5"),
        ({"pairs": 10, "max_pairs": 8}, "raise --max-pairs"),
    ],
)
def test_impossible_questions_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        limits_of(**{"metrics": [], "tolerances": [], **arguments})
