"""A quantized network's biases lie on the grid of int32 codes, so that every runtime adds the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exporters.cases import Case, quantized

from edgepack.core.types import Silent
from edgepack.exporters.litert import LiteRTExporter
from edgepack.network.bias import round_biases
from edgepack.network.fold import program_of
from edgepack.network.model import predict
from edgepack.network.program import Layer
from edgepack.runtimes.litert import LiteRT

NETWORKS = ("u-net", "perceptron with tanh", "dense connections", "one dimension")


def with_bias(case: Case) -> list[Layer]:
    return [layer for layer in program_of(case.model, quantizers=True).layers if layer.bias is not None]


def off_the_grid(layer: Layer) -> float:
    """How far the codes of a layer's bias are from integers, at most."""
    assert layer.bias is not None and layer.params is not None and layer.input_step is not None
    codes = layer.bias / (layer.input_step * np.array(layer.params.scale))
    return float(np.abs(codes - np.rint(codes)).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_bias_is_a_whole_number_of_steps(name: str) -> None:
    assert max(off_the_grid(layer) for layer in with_bias(quantized(name))) < 0.02  # a float32 of some 10,000 steps


def test_rounding_again_moves_nothing() -> None:
    case = quantized("dense connections")
    before = {name: value.clone() for name, value in case.model.network.state_dict().items()}

    assert round_biases(case.model) == len(with_bias(case)) > 0

    for name, value in case.model.network.state_dict().items():
        np.testing.assert_allclose(value.numpy(), before[name].numpy(), rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_bias_that_two_layers_share_stays() -> None:
    """Their inputs have different grids, and one number can't lie on both."""
    case = quantized("shared weights")
    layers = with_bias(case)

    shared = [layer for layer in layers if layer.shifted_by == "conv.bias"]

    assert len(shared) == 2
    assert round_biases(case.model) == len(layers) - len(shared)


@pytest.mark.parametrize("name", ["one dimension", "perceptron with tanh"])
def test_the_file_computes_exactly_what_the_network_does(name: str, tmp_path: Path) -> None:
    """With biases that LiteRT alone rounds, one output in thirty of the first network was a step apart."""
    case = quantized(name)
    made = LiteRTExporter().export(case.model, case.samples.take(slice(0, 1)), tmp_path, progress=Silent())
    session = LiteRT().open(made.path)

    theirs, ours = session.run_float(dict(case.samples.inputs)), predict(case.model, case.samples)

    for item in session.outputs:
        assert item.quantization is not None
        assert np.abs(theirs[item.name] - ours[item.name]).max() < 0.01 * item.quantization.step
