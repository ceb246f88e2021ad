"""Operators and shapes of a `.tflite`, read without a runtime.

Field numbers: tensorflow/lite/schema/schema.fbs (Model, SubGraph, Tensor, Operator, OperatorCode).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from edgepack.codec.segments.flatbuffer import Damaged, Table, root
from edgepack.codec.segments.tflite import buffer_place, tensor_shape
from edgepack.codec.segments.tile import Found
from edgepack.explain.graph import Node, Shape, Wiring

_OPERATOR_CODES, _SUBGRAPHS, _BUFFERS = 1, 2, 4
_TENSORS, _SUBGRAPH_INPUTS, _OPERATORS = 0, 1, 3
_OPCODE_INDEX, _INPUTS, _OUTPUTS = 0, 1, 2
_DEPRECATED_CODE, _CODE = 0, 3
_SHAPE, _TYPE, _BUFFER, _NAME, _QUANTIZATION = 0, 1, 2, 3, 4
_SCALE = 2
_INT64 = 4  # TensorType
_I8, _I32, _U32 = (struct.Struct(f"<{letter}") for letter in "biI")
# BuiltinOperator of the schema: those that multiply by weights, or that a weight passes on its way there.
_KINDS = {
    0: "add",
    3: "conv2d",
    4: "depthwiseconv2d",
    6: "dequantize",
    7: "embeddinglookup",
    9: "fullyconnected",
    16: "lstm",
    18: "mul",
    36: "gather",
    44: "unidirectionalsequencelstm",
    54: "prelu",
    67: "transposeconv",
    114: "quantize",
    126: "batchmatmul",
    132: "conv3d",
}


def read(data: bytes) -> Wiring:
    """The first subgraph, which is what an app runs. Raises ValueError for a file that is damaged."""
    if data[4:8] != b"TFL3":
        raise Damaged("not a TensorFlow Lite file")
    model = root(data)
    kinds = [_kind(code) for code in model.tables(_OPERATOR_CODES)]
    subgraphs = model.tables(_SUBGRAPHS)
    if not subgraphs:
        raise Damaged("no subgraph")
    tensors = subgraphs[0].tables(_TENSORS)
    names = [_name(tensor) for tensor in tensors]
    shapes = {name: _shape(tensor) for name, tensor in zip(names, tensors, strict=True)}
    nodes = [_node(operator, names, kinds) for operator in subgraphs[0].tables(_OPERATORS)]
    inputs = frozenset(_names(subgraphs[0], _SUBGRAPH_INPUTS, names))
    biases = _wide_biases(tensors, names, model.tables(_BUFFERS))
    return Wiring(nodes=tuple(nodes), inputs=inputs, shapes=shapes, constants=tuple(biases))


def _wide_biases(tensors: list[Table], names: list[str], buffers: list[Table]) -> Iterator[Found]:
    """The int64 constants on a grid, which are the biases of layers with int16 activations; the codec knows no int64, they are bytes to it."""
    for tensor, name in zip(tensors, names, strict=True):
        grid, number = tensor.table(_QUANTIZATION), tensor.scalar(_BUFFER, _U32)
        on_a_grid = grid is not None and grid.vector(_SCALE, element_bytes=4)[1] > 0
        if on_a_grid and tensor.scalar(_TYPE, _I8) == _INT64 and 0 < number < len(buffers):
            place, size_bytes = buffer_place(buffers[number])
            shape = tensor_shape(tensor)
            if size_bytes == 8 * math.prod(shape):
                yield Found(
                    offset=place, size_bytes=size_bytes, kind="bytes", shape=shape, channel_axis=None, name=name
                )


def _node(operator: Table, names: list[str], kinds: list[str]) -> Node:
    number = operator.scalar(_OPCODE_INDEX, _U32)
    inputs, outputs = (_names(operator, place, names) for place in (_INPUTS, _OUTPUTS))
    if number >= len(kinds):
        raise Damaged("an operator's code is not in the table")
    return Node(name=outputs[0] if outputs else "", kind=kinds[number], inputs=inputs, outputs=outputs)


def _names(table: Table, field: int, names: list[str]) -> tuple[str, ...]:
    start, count = table.vector(field, element_bytes=4)
    numbers = struct.unpack_from(f"<{count}i", table.data, start) if count else ()
    return tuple(names[number] if 0 <= number < len(names) else "" for number in numbers)


def _kind(code: Table) -> str:
    number = max(code.scalar(_DEPRECATED_CODE, _I8), code.scalar(_CODE, _I32))
    return _KINDS.get(number, f"builtin {number}")


def _name(tensor: Table) -> str:
    start, length = tensor.vector(_NAME, element_bytes=1)
    return tensor.data[start : start + length].decode("utf-8", "replace")


def _shape(tensor: Table) -> Shape:
    start, count = tensor.vector(_SHAPE, element_bytes=4)
    return tuple(int(size) for size in struct.unpack_from(f"<{count}i", tensor.data, start)) if count else ()
