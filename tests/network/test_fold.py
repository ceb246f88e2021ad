"""Folding batch norms: exact, codes included, whatever the batch norm does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgepack.core.errors import UnsupportedError
from edgepack.network.fold import program_of
from edgepack.network.grid import made_up_grid, read_grid, trace
from edgepack.network.model import as_tensors
from network.test_grid import CONSTRAINTS, model_of, quantized, samples_for


def lively(module: nn.Module, change: Callable[[Any], None] | None = None) -> nn.Module:
    """Batch norms with values that matter."""
    torch.manual_seed(1)
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                norm.running_mean.normal_(0, 0.5)
                norm.running_var.uniform_(0.3, 2)
                if norm.affine:
                    norm.weight.uniform_(0.5, 1.5)
                    norm.bias.normal_(0, 0.5)
                    norm.weight[0] *= -1
                    if change is not None:
                        change(norm)
    return module


class Chain(nn.Module):
    """Modules in a row. (NNCF can't hook a bare nn.Sequential.)"""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def switch_off(norm: Any) -> None:
    norm.weight[1] = 0.0


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (lambda: lively(Chain(nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6))), (2, 6, 6)),
    "conv with bias": (lambda: lively(Chain(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU())), (2, 6, 6)),
    "switched off": (lambda: lively(Chain(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)), switch_off), (2, 6, 6)),
    "no factors": (lambda: lively(Chain(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6, affine=False))), (2, 6, 6)),
    "depthwise": (lambda: lively(Chain(nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6))), (6, 6, 6)),
    "grouped": (lambda: lively(Chain(nn.Conv2d(6, 4, 3, groups=2), nn.BatchNorm2d(4))), (6, 6, 6)),
    "same padding": (lambda: lively(Chain(nn.Conv2d(2, 6, 3, padding="same"), nn.BatchNorm2d(6))), (2, 6, 6)),
    "transposed": (lambda: lively(Chain(nn.ConvTranspose2d(3, 6, 2, 2), nn.BatchNorm2d(6))), (3, 5, 5)),
    "conv1d": (lambda: lively(Chain(nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6))), (3, 9)),
    "linear": (lambda: lively(Chain(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU())), (8,)),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def values(module: Any, inputs: tuple[torch.Tensor, ...]) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(module(*inputs).numpy())


@each_network
def test_folding_a_float_network_keeps_its_function(name: str) -> None:
    make, shape = NETWORKS[name]
    model = model_of(make, shape)
    inputs = as_tensors(model, samples_for(shape, 1))

    program = program_of(model)

    assert not any("batch_norm" in str(node.target) for node in program.module.graph.nodes)
    assert values(program.module, inputs) == pytest.approx(values(model.network, inputs), abs=1e-5)
    assert not program.quantized


@each_network
def test_folding_a_quantized_network_keeps_every_code(name: str, tmp_path: Any) -> None:
    make, shape = NETWORKS[name]
    model = quantized(model_of(make, shape), tmp_path)

    program = program_of(model)

    (layer,) = program.layers
    assert layer.codes is not None and layer.params is not None
    before = read_grid(model.network, trace(model.build(), model.example())).weights[layer.name]
    axis = 1 if name == "transposed" else 0
    channels = layer.codes.shape[axis]
    along = [-1 if d == axis else 1 for d in range(layer.codes.ndim)]
    scale = np.broadcast_to(np.array(before.scale), (channels,)).reshape(along)
    float_codes = np.rint(program.float_network.get_parameter(layer.name).detach().double().numpy() / scale)
    norm: Any = next(m for m in model.network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)))
    gamma = np.ones(channels) if norm.weight is None else norm.weight.detach().numpy()
    assert np.array_equal(layer.codes, float_codes * np.sign(gamma).reshape(along))
    factor = np.abs(gamma / np.sqrt(norm.running_var.numpy() + norm.eps))
    on = factor > 0
    assert np.array(layer.params.scale)[on] == pytest.approx((scale.ravel() * factor)[on], rel=1e-5)
    assert (np.array(layer.params.scale) > 0).all()
    assert (np.moveaxis(layer.codes, axis, 0)[~on] == 0).all()


@each_network
def test_the_folded_weights_are_their_codes_times_their_scale(name: str, tmp_path: Any) -> None:
    make, shape = NETWORKS[name]

    (layer,) = program_of(quantized(model_of(make, shape), tmp_path)).layers

    assert layer.codes is not None and layer.params is not None
    along = [-1 if d == (layer.params.axis or 0) else 1 for d in range(layer.codes.ndim)]
    expected = layer.codes * np.array(layer.params.scale).reshape(along)
    assert layer.weight == pytest.approx(expected, rel=1e-6)


def test_a_batch_norm_without_running_statistics_is_refused() -> None:
    model = model_of(lambda: Chain(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), (2, 6, 6))

    with pytest.raises(UnsupportedError, match="track_running_stats=True"):
        program_of(model)


def test_a_batch_norm_whose_convolution_has_another_use_becomes_a_depthwise_convolution() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 4, 3), lively(nn.BatchNorm2d(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return y + self.norm(y)

    model = model_of(Twice, (2, 6, 6))
    inputs = as_tensors(model, samples_for((2, 6, 6), 1))

    program = program_of(model)

    assert not any("batch_norm" in str(node.target) for node in program.module.graph.nodes)
    assert [layer.weight.shape for layer in program.layers] == [(4, 2, 3, 3), (4, 1, 1, 1)]
    assert values(program.module, inputs) == pytest.approx(values(model.network, inputs), abs=1e-5)


def test_a_layer_that_is_used_twice_is_folded_for_each_use() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)
            self.first, self.second = lively(nn.BatchNorm2d(2)), lively(nn.BatchNorm2d(2), switch_off)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.conv(torch.relu(self.first(self.conv(x)))))

    model = model_of(Two, (2, 6, 6))
    inputs = as_tensors(model, samples_for((2, 6, 6), 1))

    program = program_of(model)

    assert len(program.layers) == 2
    assert values(program.module, inputs) == pytest.approx(values(model.network, inputs), abs=1e-5)


@pytest.mark.parametrize("name", ["conv", "depthwise", "transposed"])
def test_a_program_with_an_open_batch_takes_any_number_of_samples(name: str) -> None:
    build, shape = NETWORKS[name]
    model = model_of(build, shape)
    x = torch.randn(5, *shape)

    program = program_of(model, dynamic_batch=True)

    with torch.no_grad():
        torch.testing.assert_close(program.module(x), model.network(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(program.module(x[:1]), model.network(x[:1]), rtol=1e-4, atol=1e-5)


def test_a_made_up_grid_lays_out_a_network_that_was_never_quantized() -> None:
    build, shape = NETWORKS["conv with bias"]
    model = model_of(build, shape)
    ops = trace(model.build().eval(), model.example())

    program = program_of(model, quantizers=True, made_up=made_up_grid(model.network, ops, CONSTRAINTS))

    assert program.quantized
    assert len(program.quantizers) == len(program.activations) == 2
    assert all(layer.codes is not None and np.abs(layer.codes).max() == 127 for layer in program.layers)
    plain = program_of(model).layers
    assert all(np.array_equal(a.weight, b.weight) for a, b in zip(program.layers, plain, strict=True))
