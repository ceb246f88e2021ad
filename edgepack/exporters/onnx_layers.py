"""Weights as the trained int8 or int4 codes and biases as int32, each with a DequantizeLinear node.

Codes of four bits pass a Cast to int8 first: ONNX Runtime (1.31) computes it once, when it loads the model, and takes its int8 kernels; a DequantizeLinear of
int4 would leave the layer in float, ten times slower.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Array
from edgepack.exporters.onnx_graph import Graph, make_node, place
from edgepack.network.program import Layer

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_LARGEST_BIAS_CODE = 2**30
_LARGEST_CODE = {"int8": 127, "int4": 7}
_FOLDED = re.compile(r"_folded_(\d+)_weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How layers are written: biases as int32 codes, or float; codes of four bits two in a byte, or as int8."""

    quantize_bias: bool
    int4_weights: bool


def write_layers(graph: Graph, layers: tuple[Layer, ...], scales: Mapping[str, float], form: Form) -> list[str]:
    """Put codes in the place of float weights and biases. Answers notes of what had to deviate.

    `scales` has the scale of every quantized tensor. Raises UnsupportedError when a layer of the network is not in the graph.
    """
    notes: list[str] = []
    found: set[str] = set()
    nodes: list[Any] = []
    for node in graph.nodes:
        weight = node.input[1] if node.op_type in _WEIGHTED and len(node.input) > 1 else ""
        if weight in graph.constants:
            layer, turned = _layer_of(weight, graph.constants[weight], layers)
            found.update([layer.name] if layer is not None else [])
            if layer is not None and layer.codes is not None:
                scale = scales.get(node.input[0]) if form.quantize_bias else None
                nodes += _write_layer(graph, node, layer, turned, scale, notes, as_int4=form.int4_weights)
            else:
                notes.append(f"{place(node)}: the constant factor of this {node.op_type} has no grid and stays float")
        nodes.append(node)
    missing = [layer.name for layer in layers if layer.name not in found]
    if missing:
        raise UnsupportedError(
            f"{missing[0]}: the exporter changed the weights of this layer, so the trained codes can't be written"
        )
    graph.nodes = nodes
    wide = [layer.name for layer in layers if layer.params and layer.params.dtype == "int4" and not form.int4_weights]
    return notes + (
        [f"the 4-bit weights of {len(wide)} layer(s) are stored as int8 for this target: {', '.join(wide)}"]
        if wide
        else []
    )


def name_layers(graph: Graph, layers: tuple[Layer, ...]) -> None:
    """Give the float weights and biases of a graph the names of the network's parameters."""
    for index, layer in enumerate(layers):
        for old, new in ((f"_folded_{index}_weight", layer.name), (f"_folded_{index}_bias", _bias_name(layer.name))):
            if old in graph.constants:
                name = graph.fresh(new)
                graph.constants[name] = graph.constants.pop(old)
                graph.let_read(old, name)


def _write_layer(
    graph: Graph,
    node: Any,
    layer: Layer,
    turned: bool,
    input_scale: float | None,
    notes: list[str],
    *,
    as_int4: bool,
) -> list[Any]:
    """The nodes to put before a layer's node; its inputs are changed to read them."""
    assert layer.codes is not None and layer.params is not None
    bias = _bias(graph, node) if input_scale is not None else None
    scale, codes = np.array(layer.params.scale, np.float64), layer.codes
    if bias is not None:
        assert input_scale is not None
        needed = np.abs(bias) / (input_scale * _LARGEST_BIAS_CODE)
        needed = needed.max(keepdims=True) if scale.size == 1 else needed
        if (needed > scale).any():
            count = int((needed > scale).sum())
            notes.append(
                f"{layer.name}: {count} channel(s) with tiny weights got a wider scale so that the bias fits int32"
            )
            scale = np.maximum(scale, needed)
            limit = _LARGEST_CODE[layer.params.dtype]
            codes = np.clip(np.rint(layer.weight / _along(scale, layer.weight.ndim, layer.params.axis)), -limit, limit)
    axis = layer.params.axis or 0
    made = _dequantize(
        graph,
        layer.name,
        codes.astype(np.int8).T if turned else codes.astype(np.int8),
        scale,
        axis=codes.ndim - 1 - axis if turned else axis,
        as_int4=as_int4 and layer.params.dtype == "int4",
    )
    node.input[1] = made[-1].output[0]
    if bias is not None:
        bias_scale = np.float32(input_scale) * scale.astype(np.float32)
        bias_codes = np.rint(bias / bias_scale.astype(np.float64)).astype(np.int32)
        made += _dequantize(graph, _bias_name(layer.name), bias_codes, bias_scale, axis=0)
        node.input[2] = made[-1].output[0]
    elif len(node.input) > 2 and node.input[2] in graph.constants:
        node.input[2] = graph.constant(_bias_name(layer.name), graph.constants[node.input[2]])
    return made


def _dequantize(
    graph: Graph, name: str, codes: Array, scale: NDArray[Any], *, axis: int, as_int4: bool = False
) -> list[Any]:
    """A DequantizeLinear node over constant codes, behind a Cast where they are stored in four bits.

    Zero points are 0: written for int8, absent for int32 as the standard wants it. No two layers share a zero point: ONNX Runtime (1.31) fails to
    rewrite such weights for CPUs without VNNI.
    """
    from onnx import TensorProto

    scale = scale.astype(np.float32).reshape(() if scale.size == 1 else (-1,))
    stored = codes.astype(ml_dtypes.int4) if as_int4 else codes
    read = graph.constant(f"{name}/codes", np.ascontiguousarray(stored))
    nodes = []
    if as_int4:
        nodes.append(make_node("Cast", [read], [graph.fresh(f"{name}/int8")], to=TensorProto.INT8))
        read = nodes[0].output[0]
    inputs = [read, graph.constant(f"{name}/scale", scale)]
    if codes.dtype == np.int8:
        inputs.append(graph.constant(f"{name}/zero_point", np.zeros(scale.shape, np.int8)))
    return [*nodes, make_node("DequantizeLinear", inputs, [graph.fresh(name)], axis=axis)]


def _bias(graph: Graph, node: Any) -> NDArray[np.float64] | None:
    """A layer's constant bias, where an integer kernel adds it before it scales."""
    if len(node.input) < 3 or node.input[2] not in graph.constants:
        return None
    factors = {item.name: item.f for item in node.attribute if item.name in ("alpha", "beta")}
    if any(factor != 1.0 for factor in factors.values()):
        return None
    values = graph.constants[node.input[2]]
    return values.astype(np.float64) if values.ndim == 1 else None


def _bias_name(weight: str) -> str:
    return f"{weight.removesuffix('.weight')}.bias"


def _layer_of(name: str, values: Array, layers: tuple[Layer, ...]) -> tuple[Layer | None, bool]:
    """The layer whose weight a constant is, and whether the exporter transposed it."""
    if (match := _FOLDED.fullmatch(name)) is not None:
        return layers[int(match[1])], False
    for layer in layers:
        for turned, weight in ((False, layer.weight), (True, layer.weight.T)):
            if weight.shape == values.shape and np.array_equal(weight, values):
                return layer, turned
    return None, False


def _along(vector: Array, dimensions: int, axis: int | None) -> Array:
    return vector if vector.size == 1 else vector.reshape([-1 if d == (axis or 0) else 1 for d in range(dimensions)])
