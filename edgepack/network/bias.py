"""Biases on the grid that integer kernels keep them on: int32 codes in steps of the input's scale × the weight's scale.

LiteRT and ONNX Runtime round a bias so when they load or lay out a model, OpenVINO and torch don't. Where few products are summed (a depthwise convolution)
half such a step is a noticeable part of an output step, layer after layer. Rounded once, in the compressed network, it is the same everywhere.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from numpy.typing import NDArray

from edgepack.network.fold import program_of
from edgepack.network.model import Model
from edgepack.network.program import Layer

LARGEST_CODE = 2**30  # an exporter widens the weight's scale where a bias needs more


def round_biases(model: Model) -> int:
    """Move the biases of a quantized network onto that grid, in place; how many layers have such a bias now.

    A bias is moved through the parameter that adds to it: that of the layer, or of the batch norm that is folded into it. Left as they are: biases
    of a parameter that several layers use, and those of a batch norm without parameters.
    """
    layers = [layer for layer in program_of(model, quantizers=True).layers if layer.shifted_by is not None]
    uses = Counter(layer.shifted_by for layer in layers)
    state = model.network.state_dict()
    rounded = 0
    with torch.no_grad():
        for layer in layers:
            move = _to_the_grid(layer)
            if move is not None and layer.shifted_by in state and uses[layer.shifted_by] == 1:
                state[layer.shifted_by] += torch.from_numpy(move.astype(np.float32))
                rounded += 1
    return rounded


def _to_the_grid(layer: Layer) -> NDArray[np.float64] | None:
    """What has to be added to a bias; None where there is no grid. Codes that int32 can't hold stay: exporters widen the weight's scale there."""
    if layer.bias is None or layer.params is None or layer.input_step is None:
        return None
    step = (np.float32(layer.input_step) * np.array(layer.params.scale, np.float32)).astype(np.float64)
    codes = np.rint(layer.bias / step)
    move: NDArray[np.float64] = np.where(np.abs(codes) <= LARGEST_CODE, codes * step - layer.bias, 0.0)
    return move
