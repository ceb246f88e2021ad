"""The grid of a network: what has one, what shares one, and what is read of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Samples, Silent
from edgepack.methods.protocol import Context
from edgepack.methods.quantize import Quantize
from edgepack.network.grid import (
    activation_points,
    baked_state,
    grid_points,
    keep_zero_exact,
    read_grid,
    trace,
)
from edgepack.network.model import Model, predict
from edgepack.targets import load_target

CONSTRAINTS = load_target("arm64").quantization


def conv(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


class Branches(nn.Module):
    """Two branches that are concatenated, pooled, and end in a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.linear = conv(1, 4), conv(1, 4), nn.Linear(8 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.max_pool2d(torch.cat([self.a(x), self.b(x)], 1), 2)
        return functional.softmax(self.linear(pooled.flatten(1)), 1)


class Shared(nn.Module):
    """One convolution used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(functional.relu(self.conv(x)))


class TwoBuiltIn(nn.Module):
    """A concatenation of a sigmoid and a tanh: kernels fix both grids, and they differ."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.sigmoid(self.linear(x)), torch.tanh(self.linear(x))], 1)


class WeightInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 1, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.weight / self.weight.norm())


def model_of(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Model:
    from edgepack.core.types import TensorSpec

    def build() -> nn.Module:
        torch.manual_seed(0)
        return make().eval()

    return Model(
        network=build(),
        build=build,
        inputs=(TensorSpec(name="x", shape=(1, *shape)),),
        outputs=(TensorSpec(name="output", shape=()),),
    )


def samples_for(shape: tuple[int, ...], count: int = 6) -> Samples:
    return Samples(inputs={"x": np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)})


def quantized(model: Model, tmp_path: Any, *, target: str = "arm64") -> Model:
    shape = model.inputs[0].shape[1:]
    context = Context(
        original=model, train=None, calibration=samples_for(shape), workspace=tmp_path,
        constraints=load_target(target).quantization, key="test", seed=0, progress=Silent(),
    )  # fmt: skip
    return Quantize(mode="ptq").apply(model, context)


def ops_of(model: Model) -> dict[str, Any]:
    return trace(model.build(), model.example())


@pytest.fixture
def branches(tmp_path: Any) -> Model:
    return quantized(model_of(Branches, (1, 8, 8)), tmp_path)


def test_a_trace_has_the_float_operations_in_their_order() -> None:
    kinds = [op.kind for op in ops_of(model_of(Branches, (1, 8, 8))).values()]

    assert kinds[0] == "nncf_model_input"
    assert kinds.count("conv2d") == 2
    assert kinds.index("cat") < kinds.index("max_pool2d") < kinds.index("linear") < kinds.index("softmax")


def test_every_kept_tensor_gets_a_grid_and_what_is_fused_gets_none(branches: Model) -> None:
    ops = ops_of(branches)
    points = activation_points(branches.network, ops)

    kinds = {ops[name].kind for name in points}
    assert kinds == {"nncf_model_input", "relu", "cat", "linear", "softmax"}
    assert set(points) == set(grid_points(ops, CONSTRAINTS))


def test_a_concatenation_shares_one_grid_with_its_inputs(branches: Model) -> None:
    ops = ops_of(branches)
    points = activation_points(branches.network, ops)

    shared = [points[name] for name in points if ops[name].kind in ("relu", "cat")]
    assert len(shared) == 3
    assert len({id(module) for module in shared}) == 1


def test_a_grid_that_a_kernel_has_built_in_is_pinned(branches: Model) -> None:
    grid = read_grid(branches.network, ops_of(branches))

    softmax = next(params for name, params in grid.activations.items() if "softmax" in name)
    assert softmax.scale[0] == pytest.approx(1 / 256, rel=1e-6)
    assert softmax.zero_point == (-128,)
    assert len(branches.frozen) == 1


def test_every_weight_is_symmetric_with_a_scale_per_channel(branches: Model) -> None:
    grid = read_grid(branches.network, ops_of(branches))

    assert {name: len(params.scale) for name, params in grid.weights.items()} == {
        "a.0.weight": 4,
        "b.0.weight": 4,
        "linear.weight": 3,
    }
    assert all(set(params.zero_point) == {0} for params in grid.weights.values())


def test_baked_weights_are_exact_multiples_of_their_scale_within_127(branches: Model) -> None:
    ops = ops_of(branches)
    grid, state = read_grid(branches.network, ops), baked_state(branches.network, ops)

    for name, params in grid.weights.items():
        codes = state[name].double().numpy() / np.array(params.scale).reshape(-1, *[1] * (state[name].dim() - 1))
        assert np.abs(codes - np.rint(codes)).max() < 1e-4
        assert np.abs(codes).max() <= 127.001


def test_the_grid_that_is_read_is_the_one_that_the_network_computes_with(branches: Model) -> None:
    grid = read_grid(branches.network, ops_of(branches))
    points = activation_points(branches.network, ops_of(branches))

    for name, params in grid.activations.items():
        values = torch.linspace(-3, 8, 4001)
        with torch.no_grad():
            theirs = points[name](values).numpy()
        codes = np.clip(np.rint(values.numpy() / params.scale[0]) + params.zero_point[0], -128, 127)
        ours = (codes - params.zero_point[0]) * params.scale[0]
        halfway = np.abs(np.abs(values.numpy() / params.scale[0] % 1) - 0.5) < 1e-3
        assert np.abs(ours - theirs)[~halfway].max() < 1e-4 * max(1.0, np.abs(ours).max()), name


@pytest.mark.parametrize(
    ("low", "width", "expected"),
    [
        (-0.003, 2.5, (0.0, 2.497)),  # within half a step of zero
        (-1.0, 1.001, (-1.0, 0.0)),
        (-0.5, 2.0, (-0.5, 1.5)),  # farther: left alone
        (0.0, 3.0, (0.0, 3.0)),
        (-3.0, 3.0, (-3.0, 0.0)),
    ],
)
def test_a_range_that_ends_near_zero_ends_at_zero(low: float, width: float, expected: tuple[float, float]) -> None:
    from edgepack.network.grid.hooks import activation_quantizer, params_of

    quantizer: Any = activation_quantizer((-1.0, 1.0), bits=8, symmetric=False)
    with torch.no_grad():
        quantizer.input_low.fill_(low)
        quantizer.input_range.fill_(width)

    keep_zero_exact(quantizer)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ends = float(quantizer.input_low), float(quantizer.input_low + quantizer.input_range)
    assert ends == pytest.approx(expected, abs=1e-6)
    with torch.no_grad():
        assert float(quantizer(torch.zeros(1))) == pytest.approx(0.0, abs=1e-7)
        values = torch.linspace(expected[0], expected[1], 1001)
        codes = quantizer(values) / params_of(quantizer).scale[0]
    assert float((codes - codes.round()).abs().max()) < 1e-3


def test_a_weight_that_is_used_twice_has_one_quantizer(tmp_path: Any) -> None:
    model = quantized(model_of(Shared, (1, 6, 6)), tmp_path)

    grid = read_grid(model.network, ops_of(model))
    assert list(grid.weights) == ["conv.weight"]
    hooks = [m for n, m in model.network.named_modules(remove_duplicate=False) if "Symmetric" in type(m).__name__]
    assert len({id(m) for m in hooks if type(m).__name__ == "SymmetricQuantizer"}) == 1


def test_grids_that_contradict_each_other_are_refused_with_the_operators(tmp_path: Any) -> None:
    ops = ops_of(model_of(TwoBuiltIn, (4,)))

    with pytest.raises(UnsupportedError, match=r"sigmoid.*must share one grid.*built into the kernel"):
        grid_points(ops, CONSTRAINTS)


def test_a_weight_that_forward_computes_is_refused(tmp_path: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"conv2d.*computed in forward, not a parameter"):
        quantized(model_of(WeightInForward, (1, 6, 6)), tmp_path)


def test_a_quantized_network_stays_near_the_float_one(branches: Model) -> None:
    samples = samples_for((1, 8, 8))
    float_model = model_of(Branches, (1, 8, 8))

    theirs, ours = predict(float_model, samples)["output"], predict(branches, samples)["output"]

    assert np.abs(theirs - ours).max() < 0.05


@pytest.mark.parametrize(
    ("bounds", "step"),
    [
        ((0.0, 6.0), 6 / 127),
        ((-1.0, 0.9921875), 1 / 128),
        ((-2.56, 1.0), 2.56 / 128),
        ((0.5, 1.27), 0.01),
        ((0.0, 0.0), 1e-6 / 127),
    ],
)
def test_a_symmetric_grid_covers_the_range_with_its_zero_at_code_zero(bounds: tuple[float, float], step: float) -> None:
    from edgepack.network.grid.hooks import activation_quantizer, params_of, suits

    quantizer: Any = activation_quantizer(bounds, bits=8, symmetric=True)

    params = params_of(quantizer)
    assert (params.scale, params.zero_point) == (pytest.approx((step,), rel=1e-6), (0,))
    assert suits(quantizer, bits=8, symmetric=True) and not suits(quantizer, bits=8, symmetric=False)
    with torch.no_grad():
        rounded = quantizer(torch.tensor([bounds[0], 0.0, bounds[1], -1e9, 1e9]))
    assert rounded[:3].tolist() == pytest.approx([bounds[0], 0.0, bounds[1]], abs=step / 2 + 1e-9)
    assert rounded[3:].tolist() == pytest.approx([-128 * step, 127 * step], rel=1e-4)


def test_sixteen_bits_count_around_zero() -> None:
    from edgepack.network.grid.hooks import activation_quantizer, params_of, suits

    quantizer: Any = activation_quantizer((-1.0, 4.0), bits=16, symmetric=True)

    params = params_of(quantizer)  # NNCF itself tells a zero point of -1
    assert (params.dtype, params.scale, params.zero_point) == ("int16", pytest.approx((4 / 32767,), rel=1e-6), (0,))
    assert suits(quantizer, bits=16, symmetric=True) and not suits(quantizer, bits=8, symmetric=True)


def test_all_zero_points_are_zero_on_a_symmetric_target(tmp_path: Any) -> None:
    model = quantized(model_of(Branches, (1, 8, 8)), tmp_path, target="gpu-tensorrt")

    grid = read_grid(model.network, ops_of(model))

    assert {params.zero_point for params in grid.activations.values()} == {(0,)}
    assert len(grid.activations) > 4
