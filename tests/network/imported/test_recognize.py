"""Activations and norms that are spelled out get their names back."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.network.grid import trace
from edgepack.network.imported import module_of

Formula = Callable[[torch.Tensor], torch.Tensor]
SPELLED: dict[str, tuple[str, Formula]] = {
    "x relu6 / 6": ("hardswish", lambda x: x * functional.relu6(x + 3) / 6),
    "x (relu6 / 6)": ("hardswish", lambda x: x * (functional.relu6(x + 3.0) * (1 / 6))),
    "clamp x / 6": ("hardswish", lambda x: (x + 3).clamp(0, 6) / 6 * x),
    "x hardsigmoid": ("hardswish", lambda x: functional.hardsigmoid(x) * x),
    "x sigmoid": ("silu", lambda x: torch.sigmoid(x) * x),
    "x erf": ("gelu", lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))),
    "0.5 x erf": ("gelu", lambda x: 0.5 * (x * (torch.erf(x * 0.70710678) + 1))),
    "x tanh": ("gelu", lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3))))),
    "x tanh of products": ("gelu", lambda x: x * (0.5 * (torch.tanh(0.79788456 * (0.044715 * x * x * x + x)) + 1))),
}


class Net(nn.Module):
    def __init__(self, formula: Formula) -> None:
        super().__init__()
        self.first, self.second, self.formula = nn.Linear(6, 8), nn.Linear(8, 3), formula

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.formula(self.first(x)))


class Norm(nn.Module):
    """Layer norm as older exporters write it."""

    def __init__(self, *, affine: bool, by_power: bool) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))
        self.affine, self.by_power = affine, by_power

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centered = x - x.mean(-1, keepdim=True)
        variance = (centered.pow(2) if self.by_power else centered * centered).mean(-1, keepdim=True)
        y = centered / torch.sqrt(variance + 1e-5) if self.by_power else centered * torch.rsqrt(variance + 1e-5)
        return y * self.gamma + self.beta if self.affine else y


def kinds_and_difference(network: nn.Module, shape: tuple[int, ...]) -> tuple[list[str], float]:
    network.eval()
    example = (torch.randn(3, *shape),)
    program = torch.export.export(network, example, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    again = module_of(program)
    with torch.no_grad():
        difference = float((again(*example) - network(*example)).abs().max())
    return [op.kind for op in trace(again, (example[0][:1],)).values()], difference


@pytest.mark.parametrize("name", SPELLED)
def test_an_activation_that_is_spelled_out_gets_its_name(name: str) -> None:
    torch.manual_seed(0)
    wanted, formula = SPELLED[name]

    kinds, difference = kinds_and_difference(Net(formula), (6,))

    assert [kind for kind in kinds if not kind.startswith("nncf")] == ["linear", wanted, "linear"]
    assert difference < 1e-5


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("by_power", [True, False])
@pytest.mark.parametrize("shape", [(8,), (5, 8)])
def test_a_layer_norm_that_is_spelled_out_gets_its_name(affine: bool, by_power: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)

    kinds, difference = kinds_and_difference(Net(Norm(affine=affine, by_power=by_power)), (*shape[:-1], 6))

    assert [kind for kind in kinds if not kind.startswith("nncf")] == ["linear", "layer_norm", "linear"]
    assert difference < 1e-5


def test_what_only_looks_alike_is_left_alone() -> None:
    torch.manual_seed(0)
    for formula in (
        lambda x: x * functional.relu6(x + 2) / 6,
        lambda x: x * torch.sigmoid(x + 1),
        lambda x: x * 0.4 * (1 + torch.erf(x / math.sqrt(2))),
    ):
        kinds, difference = kinds_and_difference(Net(formula), (6,))
        assert not {"hardswish", "silu", "gelu"} & set(kinds)
        assert difference < 1e-5
