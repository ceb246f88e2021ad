"""Scales of input channels that make rounding cost less where inputs are large."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.core.errors import DataError
from edgepack.network.awq import Scaled, rounded, scale_inputs
from edgepack.network.weight_grids import WeightGrid

WIDTH, LENGTH, GROUP, HEADS = 32, 6, 16, 4
OUTLIERS = [3, 17, 20]
FORMS = list(itertools.product((True, False), (None, GROUP)))


class Block(nn.Module):
    """A pre-norm block of a transformer with ReLU between its last two layers, then GELU and a head; some of the norms' features are large."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries, self.keys, self.values, self.joined = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.wide, self.narrow, self.head = nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH), nn.Linear(WIDTH, 4)
        for norm in (self.first, self.second):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
            with torch.no_grad():
                norm.weight[OUTLIERS] = 50

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        even = self.first(x)
        parts = (layer(even).unflatten(2, (HEADS, -1)).transpose(1, 2) for layer in (self.queries, self.keys, self.values))  # fmt: skip
        x = x + self.joined(functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))
        x = x + self.narrow(torch.relu(self.wide(self.second(x))))
        scores: torch.Tensor = self.head(functional.gelu(x))
        return scores


def samples(count: int, seed: int) -> list[tuple[torch.Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [(torch.randn(1, LENGTH, WIDTH, generator=random),) for _ in range(count)]


def kind(weight: torch.Tensor, *, symmetric: bool = True, group: int | None = None) -> WeightGrid:
    """A grid of four bits; of its arrays only the shapes count here."""
    shape = tuple(weight.shape)
    codes = np.zeros((shape[0], -(-shape[1] // group), group) if group else shape, np.int8)
    scale = np.ones((*codes.shape[:-1], 1), np.float16)
    return WeightGrid(
        bits=4, codes=codes, scale=scale, zero_point=None if symmetric else scale.astype(np.uint8), shape=shape
    )


def scaled(network: Block, **form: Any) -> tuple[Scaled, dict[str, WeightGrid]]:
    grids = {name: kind(value, **form) for name, value in network.named_parameters() if value.dim() == 2}
    graph: Any = torch.export.export(network, samples(1, 0)[0]).module()
    return scale_inputs(network, graph, grids, samples(40, 1)), grids


def outputs(network: Block) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([network(*one) for one in samples(20, 2)])


def error(network: Block, exact: Block, name: str, grid: WeightGrid) -> float:
    """The squared error of one layer's outputs, for other samples, when its weight is rounded."""
    inputs = [torch.cat(seen_by(one, name)).double() for one in (network, exact)]
    weights = [one.get_parameter(f"{name}.weight").detach().double() for one in (network, exact)]
    return float((inputs[0] @ rounded(weights[0], grid).T - inputs[1] @ weights[1].T).square().sum())


def seen_by(network: Block, name: str) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    hook = network.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    outputs(network)
    hook.remove()
    return seen


@pytest.mark.parametrize(("symmetric", "group"), FORMS)
def test_layers_of_large_features_err_far_less_and_the_function_stays(symmetric: bool, group: int | None) -> None:
    exact = Block().eval()
    network = copy.deepcopy(exact)

    made, grids = scaled(network, symmetric=symmetric, group=group)

    assert torch.allclose(outputs(network), outputs(exact), rtol=1e-4, atol=1e-4)
    assert {"queries.weight", "keys.weight", "wide.weight"} <= made.exponents.keys()
    assert all(made.shares[f"{name}.weight"] < 0.5 for name in ("queries", "keys", "wide"))
    for name in ("queries", "keys"):  # what the others give is divided for the layers behind them
        grid = grids[f"{name}.weight"]
        assert error(network, exact, name, grid) < 0.5 * error(exact, exact, name, grid)


def test_layers_that_read_the_same_tensor_have_one_scale() -> None:
    exact = Block().eval()
    network = copy.deepcopy(exact)

    made, _ = scaled(network)

    factors = [
        network.get_parameter(f"{name}.weight").detach()[0] / exact.get_parameter(f"{name}.weight").detach()[0]
        for name in ("queries", "keys")
    ]
    assert torch.allclose(factors[0], factors[1], rtol=1e-5)
    assert float(factors[0][OUTLIERS].min()) > float(factors[0].median())
    assert len({made.exponents[f"{name}.weight"] for name in ("queries", "keys", "values")}) == 1


def test_a_layer_behind_gelu_is_left_and_named() -> None:
    network = Block().eval()
    head = network.head.weight.detach().clone()

    made, grids = scaled(network)

    assert made.left["head.weight"] == "it reads what gelu gives, which can take no scale"
    assert torch.equal(network.head.weight, head)
    assert made.left.keys() | made.exponents.keys() == grids.keys()


def test_inputs_that_are_all_zero_get_no_scale() -> None:
    network = Block().eval()
    with torch.no_grad():
        for value in (network.second.weight, network.second.bias):
            value.zero_()

    made, _ = scaled(network)

    assert made.left["wide.weight"] == "no scale of its inputs errs less"
    assert bool(torch.isfinite(outputs(network)).all())


def test_inputs_that_are_not_finite_are_refused() -> None:
    network = Block().eval()
    with torch.no_grad():
        network.first.bias[0] = float("nan")

    with pytest.raises(DataError, match=r"inputs of layer 'queries' are not finite .* data\.calibration, or leave awq out"):  # fmt: skip
        scaled(network)
