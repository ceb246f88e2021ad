"""Sizes are guessed from the weights before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgepack.recipe import CompressStep
from edgepack.tune.guess import SizeGuess, weight_of

SHAPES = {"stem.weight": (32, 1, 3, 3), "middle.weight": (256, 128, 1, 1), "head.weight": (10, 256)}
WEIGHTS = {name: np.random.default_rng(0).laplace(size=shape) for name, shape in SHAPES.items()}
COUNT = sum(weight.size for weight in WEIGHTS.values())
ROUNDED: dict[str, Any] = {"method": "quantize", "mode": "ptq"}
GUESS = SizeGuess(weights=tuple(weight_of(name, weight) for name, weight in WEIGHTS.items()))


def test_weights_of_four_bits_cost_less_and_a_share_of_them_something_between() -> None:
    half, all_of_them = (
        GUESS.bytes_of([CompressStep.model_validate({**ROUNDED, "weights_bits": 4, "int4_share": share})])
        for share in (0.005, 1.0)
    )

    assert 8 * all_of_them / COUNT < 4
    assert all_of_them < half < GUESS.bytes_of(steps()) / 2 + 2000  # one layer has nearly all weights


def steps(*more: dict[str, Any]) -> tuple[CompressStep, ...]:
    return tuple(CompressStep.model_validate(step) for step in (*more, ROUNDED))


def bits(*more: dict[str, Any]) -> float:
    return 8 * GUESS.bytes_of(steps(*more)) / COUNT


def entropy(codes: np.ndarray[Any, Any]) -> float:
    shares = np.unique(codes, return_counts=True)[1] / codes.size
    return float(-(shares * np.log2(shares)).sum())


def test_rounded_weights_cost_the_entropy_of_their_codes() -> None:
    expected = 0.0
    for weight in WEIGHTS.values():
        rows = weight.reshape(len(weight), -1)
        codes = np.round(rows / np.abs(rows).max(axis=1, keepdims=True) * 127)
        expected += entropy(codes) * weight.size

    assert bits() == pytest.approx(expected / COUNT, rel=0.02)


def test_zeros_few_levels_and_shared_values_cost_less() -> None:
    dense = bits()
    sparse = [bits({"method": "prune_magnitude", "sparsity": share, "scope": "model"}) for share in (0.3, 0.6, 0.9)]

    assert dense > sparse[0] > sparse[1] > sparse[2] > 0.5
    assert bits({"method": "palettize", "bits": 3}) == pytest.approx(0.94 * 3, rel=0.05)
    few = bits({"method": "prune_entropy", "sparsity": 0.6, "levels": 7})
    assert few < bits({"method": "prune_entropy", "sparsity": 0.6, "levels": 15}) < sparse[1]


def test_fewer_channels_and_factors_are_fewer_weights() -> None:
    assert bits({"method": "prune_channels", "sparsity": 0.4}) == pytest.approx(0.6 * bits())
    assert bits({"method": "low_rank", "energy": 0.5}) < bits({"method": "low_rank", "energy": 0.8}) < bits()


def test_a_layer_that_is_left_alone_keeps_its_bits() -> None:
    pruned = {"method": "prune_magnitude", "sparsity": 0.9}

    assert bits({**pruned, "ignore": ["middle.weight"]}) > 0.9 * bits()
    assert bits({**pruned, "ignore": ["head.weight"]}) > bits(pruned)


@pytest.mark.parametrize(("method", "option"), [("prune_magnitude", "sparsity"), ("low_rank", "energy")])
def test_the_strength_for_a_size_is_found_whichever_way_it_turns(method: str, option: str) -> None:
    whole = GUESS.bytes_of(steps())

    def at(strength: float) -> tuple[CompressStep, ...]:
        return steps({"method": method, option: strength})

    found = GUESS.solve(at, 0.1, 0.95, whole / 2)

    assert GUESS.bytes_of(at(found)) == pytest.approx(whole / 2, rel=0.02)
    low, high = sorted((0.1, 0.95), key=lambda strength: GUESS.bytes_of(at(strength)))
    assert GUESS.solve(at, 0.1, 0.95, 1.0) == low  # the smallest that there is
    assert GUESS.solve(at, 0.1, 0.95, 10 * whole) == high


def test_what_was_measured_corrects_the_guess() -> None:
    pruned = steps({"method": "prune_magnitude", "sparsity": 0.6})
    sorted_too = steps({"method": "prune_magnitude", "sparsity": 0.6}, {"method": "sort_channels"})
    measured = SizeGuess.measured(GUESS.weights, steps(), 50_000)
    first = measured.bytes_of(pruned)

    known = measured.corrected([(pruned, first, round(0.9 * first))])

    assert measured.bytes_of(steps()) == pytest.approx(50_000)
    assert known.bytes_of(pruned) == pytest.approx(0.9 * first, rel=1e-3)
    assert known.bytes_of(sorted_too) == pytest.approx(0.9 * measured.bytes_of(sorted_too), rel=1e-3)
    assert known.bytes_of(steps()) == measured.bytes_of(steps())  # rounding has nothing else in common with it
