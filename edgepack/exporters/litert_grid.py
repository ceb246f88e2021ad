"""Write the exact grid into a quantized .tflite: what ai-edge-quantizer derived from ranges is replaced by what was learned."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgepack.core.errors import StageError, UnsupportedError
from edgepack.core.types import Array, QuantParams
from edgepack.exporters.litert_graph import Graph, Operator, read_graph
from edgepack.exporters.litert_int4 import store_int4
from edgepack.exporters.litert_pairing import Pairing, place
from edgepack.exporters.litert_tables import LOOKUP, quantize_tables
from edgepack.exporters.litert_wide import bias_dtype, set_bias_type
from edgepack.network.program import Layer, Program

_ACTIVATIONS = (9, 7)  # int8, int16
_CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
_WEIGHT_INPUT = {"TRANSPOSE_CONV": 1}
_BIAS_INPUT = {"TRANSPOSE_CONV": 3}
_LARGEST_CODE = {"int8": 127, "int4": 7}
# Kernels for int16 add in 64 bits and can scale sums below 2^47 (TFLite, kernels/internal/common.cc, MultiplyByQuantizedMultiplier).
_LARGEST_BIAS_CODE = {"int8": 2**30, "int16": 2**44}
_COPY = re.compile(r"_duplicated_\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imposed:
    """A finished file, weights' names in the network by tensor name, the operators that took the place of the float graph's, and notes of what had to deviate."""

    content: bytes
    parameters: Mapping[str, str]
    added: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _File:
    """A quantized file under edit."""

    model: Any
    graph: Graph
    activations: str  # the type of their codes
    parameters: dict[str, str] = field(default_factory=dict)  # the network's names of weights, by the tensors'

    def tensor(self, index: int) -> Any:
        return self.model.subgraphs[0].tensors[index]

    def operator(self, operator: Operator) -> Any:
        return self.model.subgraphs[0].operators[self.graph.operators.index(operator)]

    def set_params(self, index: int, params: QuantParams) -> None:
        quantization = self.tensor(index).quantization
        quantization.scale = np.array(params.scale, np.float32)
        quantization.zeroPoint = np.array(params.zero_point, np.int64)
        quantization.min = quantization.max = None
        quantization.quantizedDimension = params.axis or 0

    def set_values(self, index: int, values: Array) -> None:
        self.model.buffers[self.tensor(index).buffer].data = np.frombuffer(
            np.ascontiguousarray(values).tobytes(), np.uint8
        )

    def scale(self, index: int) -> float:
        return float(self.tensor(index).quantization.scale[0])


def impose(
    content: bytes, pairing: Pairing, program: Program, *, float_content: bytes, int4_operators: Collection[str] = ()
) -> Imposed:
    """The file with exact scales, zero points, codes and biases.

    `int4_operators` are those whose kernels read weights of four bits. Raises UnsupportedError or StageError, naming the place, when a tensor of the file has no
    counterpart in the network.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model, graph = read_graph(content)
    file = _File(model=model, graph=graph, activations=pairing.dtype)
    _impose_activations(file, pairing)
    _, float_graph = read_graph(float_content)
    floats = {name: float_graph.constants[i] for i, name in enumerate(float_graph.names) if i in float_graph.constants}
    notes: list[str] = []
    done: dict[int, Layer] = {}
    for operator in graph.operators:
        if operator.kind in _CHANNEL_AXIS:
            _impose_layer(file, operator, program, floats, done, notes)
    narrow = {index: layer.name for index, layer in done.items() if layer.params and layer.params.dtype == "int4"}
    added, left = store_int4(model, graph, narrow, int4_operators)
    notes += [*left, *quantize_tables(model, graph, pairing.params, as_int4=LOOKUP in int4_operators)]
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return Imposed(content=content, parameters=file.parameters, added=added, notes=tuple(notes))


def _impose_activations(file: _File, pairing: Pairing) -> None:
    for index in {*file.graph.inputs, *(output for operator in file.graph.operators for output in operator.outputs)}:
        tensor = file.tensor(index)
        if tensor.type not in _ACTIVATIONS:
            continue
        params = pairing.params.get(file.graph.names[index]) or _through_border(file, index, pairing)
        if params is None:
            raise StageError(
                f"tensor '{place(file.graph.names[index])}' was quantized by a range that training never learned"
            )
        file.set_params(index, params)


def _through_border(file: _File, index: int, pairing: Pairing) -> QuantParams | None:
    """The grid of a tensor that the quantizer inserted beside a QUANTIZE or DEQUANTIZE: that of the tensor it stands for."""
    for operator in file.graph.operators:
        if operator.kind in ("QUANTIZE", "DEQUANTIZE"):
            other = (
                operator.inputs[0]
                if index in operator.outputs
                else operator.outputs[0]
                if index in operator.inputs
                else None
            )
            if other is not None and file.graph.names[other] in pairing.params:
                return pairing.params[file.graph.names[other]]
    return None


def _impose_layer(
    file: _File,
    operator: Operator,
    program: Program,
    floats: dict[str, Array],
    done: dict[int, Layer],
    notes: list[str],
) -> None:
    source = operator.inputs[2] if operator.kind == "TRANSPOSE_CONV" else operator.inputs[0]
    weight = operator.inputs[_WEIGHT_INPUT.get(operator.kind, 1)]
    bias_at = _BIAS_INPUT.get(operator.kind, 2)
    bias = operator.inputs[bias_at] if len(operator.inputs) > bias_at else -1
    name = _original(file.graph.names[weight])
    if weight not in file.graph.constants or name not in floats:
        return  # a product of two activations
    axis = _CHANNEL_AXIS[operator.kind]
    layer = _layer_of(floats[name], axis, program.layers)
    if layer is None or layer.params is None:
        raise UnsupportedError(
            f"{operator.kind} at '{place(file.graph.names[operator.outputs[0]])}': its weights are not those of any layer of the network "
            "(the converter changed them), so the trained codes can't be written"
        )
    scale = np.array(layer.params.scale, np.float64)
    scale = np.broadcast_to(scale, (floats[name].shape[axis],)).copy()
    bias_values = None if bias < 0 else floats[_original(file.graph.names[bias])].astype(np.float64)
    if bias_values is not None:
        needed = np.abs(bias_values) / (file.scale(source) * _LARGEST_BIAS_CODE[file.activations])
        if (needed > scale).any():
            notes.append(
                f"{layer.name}: {int((needed > scale).sum())} channel(s) with tiny weights got a wider scale so that the bias fits"
            )
            scale = np.maximum(scale, needed)
    codes, limit = floats[name] / _along(scale, floats[name].ndim, axis), _LARGEST_CODE[layer.params.dtype]
    if weight not in done:
        file.set_values(weight, np.clip(np.rint(codes), -limit, limit).astype(np.int8))
        file.set_params(weight, QuantParams(scale=tuple(scale.tolist()), zero_point=(0,) * scale.size, axis=axis))
        file.parameters[file.graph.names[weight]] = layer.name
        done[weight] = layer
    if bias_values is not None:
        bias_scale = np.float32(file.scale(source)) * scale.astype(np.float32)
        bias_codes, dtype = np.rint(bias_values / bias_scale.astype(np.float64)), "int32"
        if file.activations == "int16":
            dtype = bias_dtype(operator.kind, codes, bias_codes, axis)
            set_bias_type(file.operator(operator), file.tensor(bias), dtype)
        file.set_values(bias, bias_codes.astype(dtype))
        params = QuantParams(scale=tuple(bias_scale.tolist()), zero_point=(0,) * scale.size, dtype=dtype, axis=0)
        file.set_params(bias, params)


def _original(name: str) -> str:
    """The float graph's name of a constant that the quantizer copied because two operators need different grids of it."""
    return _COPY.sub("", name)


def _layer_of(weight: Array, axis: int, layers: tuple[Layer, ...]) -> Layer | None:
    """The layer with exactly these values in each output channel, in whatever order inside the channel."""
    rows = _sorted_rows(weight, axis)
    for layer in layers:
        own_axis = 0 if layer.params is None or layer.params.axis is None else layer.params.axis
        same_size = layer.weight.size == weight.size and layer.weight.shape[own_axis] == rows.shape[0]
        if same_size and np.array_equal(rows, _sorted_rows(layer.weight, own_axis)):
            return layer
    return None


def _sorted_rows(weight: Array, axis: int) -> Array:
    return np.sort(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1), axis=1)


def _along(vector: Array, dimensions: int, axis: int) -> Array:
    return vector.reshape([-1 if d == axis else 1 for d in range(dimensions)])
