"""Which weights take four bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from methods.test_prune_channels import context, tiny

from edgepack.core.errors import RecipeError
from edgepack.core.types import Grid, QuantParams, Silent
from edgepack.network.int4 import LARGEST_CODE, best_step
from edgepack.network.mixed_precision import Wanted, candidates_of, choose, named_weights, same_as_base, weight_bytes
from edgepack.network.sensitivity import weight_sensitivity

SIZES = {
    "stem.0.weight": 72,
    "block.0.weight": 72,
    "block.3.weight": 64,
    "down.0.weight": 1152,
    "classifier.weight": 64,
}
TOTAL = sum(SIZES.values())


def chosen(wanted: Wanted, *, model=None) -> frozenset[str]:  # type: ignore[no-untyped-def]
    from pathlib import Path

    model = model or tiny()
    return choose(model, SIZES, wanted, context(model, Path()).calibration, Silent())


def test_a_module_stands_for_all_weights_in_it() -> None:
    assert named_weights(["block", "classifier.weight", "stem.0"], SIZES) == SIZES.keys() - {"down.0.weight"}


def test_a_layer_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"int8_layers: no layer 'stem.1' .*did you mean 'stem.0'"):
        named_weights(["stem.1"], SIZES)


def test_all_weights_take_four_bits_but_those_that_are_named() -> None:
    assert chosen(Wanted(int8_layers=("stem",))) == SIZES.keys() - {"stem.0.weight"}


def test_the_least_sensitive_per_weight_come_first() -> None:
    from pathlib import Path

    model = tiny()
    found = weight_sensitivity(model, context(model, Path()).calibration, bits=4, progress=Silent())
    cost = {one.weight: one.output_distance / one.parameters for one in found}

    picked = chosen(Wanted(share=0.06), model=model)

    dense = {"block.3.weight", "down.0.weight", "classifier.weight"}
    assert sum(SIZES[name] for name in picked) >= 0.06 * TOTAL
    assert picked < dense and max(cost[name] for name in picked) <= min(cost[name] for name in dense - picked)


def test_depthwise_layers_come_last() -> None:
    assert chosen(Wanted(share=0.85)) <= {"block.3.weight", "down.0.weight", "classifier.weight"}
    assert chosen(Wanted(share=1.0)) == SIZES.keys()


def test_a_budget_of_bytes_is_met_with_as_few_layers_as_that_takes() -> None:
    picked = chosen(Wanted(max_bytes=1000))

    assert weight_bytes(SIZES, picked) <= 1000
    assert "down.0.weight" in picked


def test_a_budget_that_is_met_already_keeps_all_weights_at_eight_bits() -> None:
    assert chosen(Wanted(max_bytes=TOTAL)) == frozenset()


def test_a_share_out_of_reach_is_refused_with_what_can_be_reached() -> None:
    with pytest.raises(
        RecipeError,
        match=r"int4_share: 0.9 of the weights can't take four bits, at most 0.1910 can \(1,152 weights are in int8_layers\)",
    ):
        chosen(Wanted(int8_layers=("down",), share=0.9))


def test_a_budget_out_of_reach_is_refused_with_what_is_needed() -> None:
    with pytest.raises(RecipeError, match=rf"max_weight_bytes: the weights take {TOTAL // 2} bytes .* 100 are allowed"):
        chosen(Wanted(max_bytes=100))


def test_no_weight_left_for_four_bits_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"weights_bits: no weight is left for 4 bits"):
        chosen(Wanted(int8_layers=("stem", "block", "down", "classifier")))


def test_weights_with_more_levels_or_shared_values_stay_as_they_are() -> None:
    model = replace(
        tiny(), levels={"stem.0.weight": 15, "down.0.weight": 7, "block.0.weight": 127}, shared={"block.0.weight": 16}
    )

    kept = candidates_of(model, SIZES, ()).kept

    assert kept == {"stem.0.weight": "have up to 15 levels", "block.0.weight": "share values (palettize)"}


def test_an_update_keeps_the_bases_bits() -> None:
    def params(dtype: str) -> QuantParams:
        return QuantParams(scale=(1.0,), zero_point=(0,), dtype=dtype)

    grid = Grid(activations={}, weights={"stem.0.weight": params("int8"), "down.0.weight": params("int4")})

    assert same_as_base(grid, SIZES, weights_bits=4) == {"down.0.weight"}
    with pytest.raises(RecipeError, match=r"weights_bits: 8, and weights of the base have 4 bits"):
        same_as_base(grid, SIZES, weights_bits=8)


def test_the_step_with_the_smallest_error_clips_the_largest_weight() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 500)
    covering = weight.abs().amax(dim=1, keepdim=True) / LARGEST_CODE

    def error(step: torch.Tensor) -> float:
        return float(((weight / step).round().clamp(-LARGEST_CODE, LARGEST_CODE) * step - weight).square().mean())

    step = best_step(weight, axis=0)

    assert step.shape == (6, 1) and (step < covering).all()
    assert error(step) < 0.8 * error(covering)
    assert torch.equal(best_step(weight.T, axis=1), step.T)
