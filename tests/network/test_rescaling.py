"""Where a scale of each channel can be taken into parameters: every place that is found must leave the network's outputs as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.network.rescaling import linear_layers, obstacles_of, rescale, rescalings

WIDTH, LENGTH = 8, 5
Step = Callable[["Layers", torch.Tensor], Any]


class Layers(nn.Module):
    """Norms, linear layers and vectors, and a forward that is given."""

    def __init__(self, forward: Step) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.root = nn.LayerNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.one, self.two, self.three, self.four = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.factor, self.shift = (nn.Parameter(torch.rand(WIDTH)) for _ in range(2))
        self.dropout = nn.Dropout(0.5)
        for norm in (self.norm, self.root):
            nn.init.uniform_(norm.weight)
        nn.init.uniform_(self.norm.bias)
        self._forward = forward

    def forward(self, x: torch.Tensor) -> Any:
        return self._forward(self, x)


def heads(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(2, (2, -1)).transpose(1, 2)


def attention(net: Layers, x: torch.Tensor) -> torch.Tensor:
    even = net.norm(x)
    queries, keys, values = heads(net.one(even)), heads(net.two(even)), heads(net.three(even))
    seen = torch.softmax(queries @ keys.transpose(2, 3), -1) @ values
    return x + net.four(seen.transpose(1, 2).flatten(2))


def fused_attention(net: Layers, x: torch.Tensor) -> torch.Tensor:
    queries, keys, values = heads(net.one(x)), heads(net.two(x)), heads(net.three(x))
    seen = functional.scaled_dot_product_attention(queries, keys, values)
    return net.four(seen.permute(0, 2, 1, 3).reshape(x.shape))


def own_norm(net: Layers, x: torch.Tensor) -> torch.Tensor:
    return net.one(net.factor * (x * torch.rsqrt(x.square().mean(2, keepdim=True) + 1e-5)) + net.shift)


def pooled(net: Layers, x: torch.Tensor) -> torch.Tensor:
    return net.one(net.dropout((net.norm(x) * torch.sigmoid(x[:, :, :1])).sum(1) / 3))


def twisted(net: Layers, x: torch.Tensor) -> torch.Tensor:
    return net.one(net.norm(x).unflatten(2, (2, -1)).transpose(2, 3).flatten(2))


FOUND: dict[str, tuple[Step, list[set[str]]]] = {
    "a norm's readers": (attention, [{"one", "two", "three"}, {"four"}]),
    "values of fused attention": (fused_attention, [{"four"}]),
    "a norm of one's own": (own_norm, [{"one"}]),
    "the mean of words": (pooled, [{"one"}]),
    "RMSNorm, the first word": (lambda net, x: net.one(net.root(x)[:, 0]), [{"one"}]),
    "ReLU": (lambda net, x: net.two(torch.relu(net.one(x))), [{"two"}]),
    "a chain": (lambda net, x: net.three(torch.relu(net.two(net.one(net.norm(x))))), [{"one"}, {"two"}, {"three"}]),
    "a gate": (lambda net, x: net.three(functional.silu(net.one(x)) * net.two(x)), [{"three"}]),
}
LEFT: dict[str, tuple[Step, str, str]] = {
    "GELU": (lambda net, x: net.two(functional.gelu(net.one(x))), "two", "reads what gelu gives"),
    "a residual": (lambda net, x: net.norm(x) + net.one(net.norm(x)), "one", ""),
    "a norm behind": (lambda net, x: (y := net.norm(x)) + net.one(y), "one", "also goes to add"),
    "an output": (lambda net, x: ((y := net.norm(x)), net.one(y)), "one", "also goes to an output of the network"),
    "the input": (lambda net, x: net.one(torch.relu(x)), "one", "reads an input"),
    "a square": (lambda net, x: net.one((y := net.norm(x)) * y), "one", "reads what mul gives"),
    "channels moved": (twisted, "one", "reads what layer_norm gives"),
    "called twice": (lambda net, x: net.one(net.norm(net.one(net.norm(x)))), "one", "used more than once"),
    "half of a sum": (lambda net, x: net.two(net.one(x).sum(2, keepdim=True).expand(x.shape)), "two", "reads what"),
}


def exported(network: nn.Module) -> tuple[Any, torch.Tensor]:
    x = torch.randn(1, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1))
    return torch.export.export(network, (x,)).module(), x


@pytest.mark.parametrize("name", FOUND)
def test_outputs_stay_for_any_scales_wherever_a_place_is_found(name: str) -> None:
    step, expected = FOUND[name]
    network = Layers(step).eval()
    graph, x = exported(network)
    before = network(x).detach().clone()

    found = rescalings(graph)

    assert [{layer.removesuffix(".weight") for layer in one.layers} for one in found] == expected
    for index, one in enumerate(found):
        random = torch.Generator().manual_seed(index)
        rescale(network, one, torch.exp(2 * torch.randn(WIDTH, generator=random, dtype=torch.float64)))
    assert torch.allclose(network(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LEFT)
def test_a_layer_without_a_place_for_scales_says_why(name: str) -> None:
    step, layer, why = LEFT[name]
    graph, _ = exported(Layers(step).eval())

    assert not any(f"{layer}.weight" in one.layers for one in rescalings(graph))
    assert f"{layer}.weight" in linear_layers(graph)
    assert why in obstacles_of(graph, [f"{layer}.weight"])[f"{layer}.weight"]
