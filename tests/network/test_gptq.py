"""Codes of linear layers that make up for each other's errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from edgepack.core.errors import DataError
from edgepack.network.gptq import codes_of, compensate
from edgepack.network.weight_grids import WeightGrid

INPUTS, OUTPUTS, GROUP = 64, 24, 16
FORMS = list(itertools.product((4, 8), (True, False), (None, GROUP)))


def correlated(samples: int, seed: int) -> torch.Tensor:
    """Inputs of 64 features that 12 hidden ones make up, and a little noise."""
    mixing = torch.randn(12, INPUTS, generator=torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 12, generator=random) @ mixing + 0.1 * torch.randn(samples, INPUTS, generator=random)


def plain(weight: torch.Tensor, *, bits: int, symmetric: bool, group: int | None) -> WeightGrid:
    """A weight rounded on the grid of its ranges."""
    values = weight.detach().numpy()
    rows = values.reshape(len(values), -1, group) if group else values
    if symmetric:
        scale = (np.abs(rows).max(-1, keepdims=True) / 2 ** (bits - 1)).astype(np.float16)
        zero_point, low, high, kind = None, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, np.int8
    else:
        least, most = np.minimum(rows.min(-1, keepdims=True), 0), np.maximum(rows.max(-1, keepdims=True), 0)
        scale = ((most - least) / (2**bits - 1)).astype(np.float16)
        zero_point, low, high, kind = np.round(-least / scale).astype(np.uint8), 0, 2**bits - 1, np.uint8
    offset = 0 if zero_point is None else zero_point.astype(np.float32)
    codes = np.clip(np.round(rows / scale.astype(np.float32)) + offset, low, high).astype(kind)
    return WeightGrid(bits=bits, codes=codes, scale=scale, zero_point=zero_point, shape=values.shape)


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(INPUTS, OUTPUTS).eval()


@pytest.mark.parametrize(("bits", "symmetric", "group"), FORMS)
def test_outputs_err_less_for_other_samples_and_the_grid_stays(bits: int, symmetric: bool, group: int | None) -> None:
    linear = layer()
    weight, others = linear.weight.detach().clone(), correlated(500, seed=2)
    grid = plain(weight, bits=bits, symmetric=symmetric, group=group)

    made = compensate(nn.Sequential(linear), {"0.weight": grid}, [(correlated(500, seed=1),)])

    found = made.grids["0.weight"]
    before, after = (
        float(((torch.from_numpy(one.values()) - weight) @ others.T).square().sum()) for one in (grid, found)
    )
    assert after < 0.5 * before
    assert made.shares["0.weight"] < 0.5
    assert found.scale is grid.scale
    assert found.zero_point is grid.zero_point
    assert (found.codes.dtype, found.codes.shape) == (grid.codes.dtype, grid.codes.shape)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    assert found.codes.min() >= low
    assert found.codes.max() <= high
    assert np.array_equal(linear.weight.detach().numpy(), found.values())


def test_inputs_that_have_nothing_in_common_are_rounded_as_ever() -> None:
    weight = layer().weight.detach()
    grid = plain(weight, bits=4, symmetric=False, group=GROUP)

    codes = codes_of(weight.double(), torch.eye(INPUTS, dtype=torch.float64), grid)

    assert np.array_equal(codes.numpy().reshape(grid.codes.shape), grid.codes)


def test_blocks_of_inputs_change_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, inputs = layer().weight.detach().double(), correlated(500, seed=1).double()
    grid, gram = plain(weight.float(), bits=4, symmetric=True, group=GROUP), inputs.T @ inputs
    whole = codes_of(weight, gram, grid)

    monkeypatch.setattr("edgepack.network.second_order._BLOCK", 10)

    assert torch.equal(codes_of(weight, gram, grid), whole)


@pytest.mark.parametrize("symmetric", [True, False])
def test_weights_that_are_zero_stay_zero(symmetric: bool) -> None:
    linear = layer()
    with torch.no_grad():
        linear.weight[:, ::3] = 0
    grid = plain(linear.weight, bits=4, symmetric=symmetric, group=GROUP)

    made = compensate(nn.Sequential(linear), {"0.weight": grid}, [(correlated(500, seed=1),)])

    assert made.shares["0.weight"] < 1
    assert not made.grids["0.weight"].values()[:, ::3].any()


def test_samples_that_are_all_zero_change_no_code() -> None:
    linear = layer()
    grid = plain(linear.weight, bits=4, symmetric=True, group=None)

    made = compensate(nn.Sequential(linear), {"0.weight": grid}, [(torch.zeros(8, INPUTS),)])

    assert np.array_equal(made.grids["0.weight"].codes, grid.codes)


class Deep(nn.Module):
    """Two layers in a row, one that is called twice, and two that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.twice = (nn.Linear(INPUTS, INPUTS) for _ in range(3))
        self.table, self.head = nn.Embedding(50, INPUTS), nn.Linear(INPUTS, 50)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.twice(self.twice(self.two(torch.relu(self.one(x))))))
        return scores


def test_a_layer_is_fitted_to_what_the_rounded_ones_before_it_give() -> None:
    network, inputs = Deep().eval(), correlated(300, seed=1)
    before = {name: value.detach().clone() for name, value in network.named_parameters() if value.dim() == 2}
    grids = {name: plain(value, bits=4, symmetric=True, group=GROUP) for name, value in before.items()}

    made = compensate(network, grids, [(inputs[:100],), (inputs[100:],)])

    assert made.shares.keys() == {
        "one.weight",
        "two.weight",
    }  # the others' codes would change what they themselves get, or a table
    for name, grid in made.grids.items():
        assert np.array_equal(network.get_parameter(name).detach().numpy(), grid.values())
    with torch.no_grad():
        seen = torch.relu(network.one(inputs)).double()
    alone = codes_of(before["two.weight"].double(), seen.T @ seen, grids["two.weight"]).numpy()
    assert np.mean(alone.reshape(-1) == made.grids["two.weight"].codes.reshape(-1)) > 0.95


def test_inputs_that_are_not_finite_are_refused() -> None:
    linear = layer()
    grid = plain(linear.weight, bits=4, symmetric=True, group=None)

    with pytest.raises(DataError, match=r"inputs of layer '0' are not finite .* data\.calibration, or leave gptq out"):
        compensate(nn.Sequential(linear), {"0.weight": grid}, [(torch.full((8, INPUTS), float("nan")),)])
