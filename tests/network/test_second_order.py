"""Rounding by second moments loses less at a layer's outputs than rounding each weight to the nearest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgepack.network.int4 import best_step
from edgepack.network.second_order import SecondMoments, round_by_second_moments


def correlated(rows: int, inputs: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(rows, inputs) @ torch.randn(inputs, inputs) * 0.1 + torch.randn(inputs)


@pytest.mark.parametrize("inputs", [40, 130])
def test_outputs_lose_less_than_half_of_what_the_nearest_codes_lose(inputs: int) -> None:
    x, weight = correlated(2000, inputs), torch.randn(24, inputs)
    step = best_step(weight, axis=0)

    rounded = round_by_second_moments(weight, step, (x.T @ x).double(), largest_code=7)

    nearest = (weight / step).round().clamp(-7, 7) * step
    codes = rounded / step
    assert float((codes - codes.round()).abs().max()) < 1e-4 and float(codes.abs().max()) < 7.001
    assert float(((weight - rounded) @ x.T).square().mean()) < 0.5 * float(((weight - nearest) @ x.T).square().mean())


def test_zeros_stay_zero_and_dead_inputs_do_no_harm() -> None:
    x, weight = correlated(500, 32), torch.randn(8, 32)
    weight[torch.rand(8, 32) < 0.5] = 0.0
    x[:, 5] = 0.0

    rounded = round_by_second_moments(weight, best_step(weight, axis=0), (x.T @ x).double(), largest_code=7)

    assert bool((rounded[weight == 0] == 0).all()) and bool(rounded.isfinite().all())


@pytest.mark.parametrize("channels_first", [True, False])
def test_moments_are_those_of_channels_at_each_position(channels_first: bool) -> None:
    recorder: nn.Module = SecondMoments(channels_first=channels_first)
    x = torch.randn(4, 3, 5, 5) if channels_first else torch.randn(4, 25, 3)

    assert torch.equal(recorder(x), x)

    rows = x.flatten(2).transpose(1, 2) if channels_first else x
    rows = rows.reshape(-1, 3).double()
    torch.testing.assert_close(recorder.total, rows.T @ rows)
