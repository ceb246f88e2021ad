"""What exporters are handed: a float program without hooks, and exact integer weights beside it. `network.fold` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import fx, nn

from edgepack.core.types import Array, Grid, QuantParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A convolution or linear layer after folding.

    `weight` is float32 with torch's dimension order; `codes` are int8 of the same shape with weight = codes × scale along the
    grid's axis, or None where the layer is not quantized. `bias` is float64 of shape (output channels,), or None; the network's parameter `shifted_by`
    adds to it, and `scaled_by` is the parameter of the batch norm that multiplies it. `input_step` is the scale of the input's grid, known in a
    program with quantizers.
    """

    name: str
    kind: str
    weight: NDArray[np.float32]
    codes: NDArray[np.int8] | None
    params: QuantParams | None
    bias: NDArray[np.float64] | None
    shifted_by: str | None = None
    scaled_by: str | None = None
    input_step: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A float program without hooks: `module` computes it, `layers` are its weights, `activations` the ranges that training learned.

    `quantizers` names, in the order of the graph's quantize nodes, the operations whose outputs they round; empty for a plain float program.
    """

    module: fx.GraphModule
    layers: tuple[Layer, ...]
    activations: Mapping[str, QuantParams]
    float_network: nn.Module
    quantized: bool
    quantizers: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid:
        """The grid as the file states it. A weight that several layers use on different grids is left out."""
        weights: dict[str, QuantParams] = {}
        several: set[str] = set()
        for layer in self.layers:
            if layer.params is not None and layer.kind != "batch_norm":
                several |= {layer.name} if weights.setdefault(layer.name, layer.params) != layer.params else set()
        kept = {name: params for name, params in weights.items() if name not in several}
        shapes = {layer.name: layer.weight.shape for layer in self.layers if layer.name in kept}
        return Grid(activations=self.activations, weights=kept, shapes=shapes)

    @property
    def codes(self) -> dict[str, Array]:
        """The codes of each weight whose grid is told, in torch's dimension order."""
        told = self.grid.weights
        return {layer.name: layer.codes for layer in self.layers if layer.name in told and layer.codes is not None}
