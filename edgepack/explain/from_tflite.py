"""Operators and shapes of a `.tflite`, read without a runtime.

Field numbers: tensorflow/lite/schema/schema.fbs (Model, SubGraph, Tensor, Operator, OperatorCode).
"""

from __future__ import annotations

import struct

from edgepack.codec.segments.flatbuffer import Damaged, Table, root
from edgepack.explain.graph import Node, Shape, Wiring

_OPERATOR_CODES, _SUBGRAPHS = 1, 2
_TENSORS, _SUBGRAPH_INPUTS, _OPERATORS = 0, 1, 3
_OPCODE_INDEX, _INPUTS, _OUTPUTS = 0, 1, 2
_DEPRECATED_CODE, _CODE = 0, 3
_SHAPE, _NAME = 0, 3
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
    return Wiring(nodes=tuple(nodes), inputs=inputs, shapes=shapes)


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
