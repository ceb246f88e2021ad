"""ONNX: where the raw data of initializers and constants lie, by walking the protobuf's bytes.

Field numbers: onnx.proto3 of ONNX 1.23 (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgepack.codec.segments.tile import Found
from edgepack.codec.types import Kind

if TYPE_CHECKING:
    from edgepack.codec.segments import Beside

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_ATTRIBUTE, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 5, 5, 6
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_KINDS: dict[int, Kind] = {1: "f32", 2: "u8", 3: "i8", 5: "i16", 6: "i32", 10: "f16", 21: "u4", 22: "i4"}
_DEPTH_MAX = 8
_FIELDS_MAX = 2_000_000  # of the whole file: a bound on time, far above any model's

Field = tuple[
    int, int, int, int
]  # number, wire type, start and end of the content; a number's value is in `end` for wire type 0


class _Damaged(ValueError):
    """Not a protobuf message."""


def find(data: bytes, name: str, beside: Beside) -> list[Found]:
    """Every tensor with raw data; those found before the first damage where the file is no ONNX file throughout."""
    found: list[Found] = []
    budget = [_FIELDS_MAX]
    try:
        for number, wire_type, start, end in _fields(data, 0, len(data), budget):
            if number == _GRAPH and wire_type == 2:
                found.extend(_of_graph(data, start, end, budget, depth=0))
    except _Damaged:
        return found
    return found


def _of_graph(data: bytes, start: int, end: int, budget: list[int], *, depth: int) -> Iterator[Found]:
    if depth > _DEPTH_MAX:
        raise _Damaged
    for number, wire_type, first, last in _fields(data, start, end, budget):
        if wire_type != 2:
            continue
        if number == _INITIALIZER:
            yield from _of_tensor(data, first, last, budget)
        elif number == _NODE:
            for inner, inner_type, a, b in _fields(data, first, last, budget):
                if inner == _ATTRIBUTE and inner_type == 2:
                    yield from _of_attribute(data, a, b, budget, depth=depth)


def _of_attribute(data: bytes, start: int, end: int, budget: list[int], *, depth: int) -> Iterator[Found]:
    for number, wire_type, first, last in _fields(data, start, end, budget):
        if wire_type == 2 and number == _ATTRIBUTE_TENSOR:
            yield from _of_tensor(data, first, last, budget)
        elif wire_type == 2 and number == _ATTRIBUTE_GRAPH:
            yield from _of_graph(data, first, last, budget, depth=depth + 1)


def _of_tensor(data: bytes, start: int, end: int, budget: list[int]) -> Iterator[Found]:
    dims: list[int] = []
    data_type, name, raw = 0, "", None
    for number, wire_type, first, last in _fields(data, start, end, budget):
        if number == _DIMS and wire_type == 0:
            dims.append(last)
        elif number == _DIMS and wire_type == 2:
            dims.extend(_packed(data, first, last))
        elif number == _DATA_TYPE and wire_type == 0:
            data_type = last
        elif number == _NAME and wire_type == 2:
            name = data[first:last].decode("utf-8", "replace")
        elif number == _RAW_DATA and wire_type == 2:
            raw = (first, last)
    kind = _KINDS.get(data_type)
    if raw is None or kind is None:
        return
    yield Found(
        offset=raw[0],
        size_bytes=raw[1] - raw[0],
        kind=kind,
        shape=tuple(dims) or (1,),
        channel_axis=0 if len(dims) > 1 else None,
        name=name,
    )


def _fields(data: bytes, position: int, end: int, budget: list[int]) -> Iterator[Field]:
    """The fields of a message, in order."""
    while position < end:
        budget[0] -= 1
        if budget[0] < 0:
            raise _Damaged
        key, position = _varint(data, position, end)
        wire_type = key & 7
        if wire_type == 0:
            value, position = _varint(data, position, end)
            yield key >> 3, 0, position, value
            continue
        if wire_type == 2:
            size, position = _varint(data, position, end)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise _Damaged
        if size > end - position:
            raise _Damaged
        yield key >> 3, wire_type, position, position + size
        position += size


def _packed(data: bytes, position: int, end: int) -> Iterator[int]:
    while position < end:
        value, position = _varint(data, position, end)
        yield value


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise _Damaged
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise _Damaged
