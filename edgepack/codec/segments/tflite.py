"""TensorFlow Lite's `.tflite`: constant tensors in their buffers, and the scales of quantized ones.

Field numbers: tensorflow/lite/schema/schema.fbs (Model, SubGraph, Tensor, QuantizationParameters, Buffer).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from edgepack.codec.segments.flatbuffer import Damaged, Table, root
from edgepack.codec.segments.tile import Found
from edgepack.codec.types import Kind

if TYPE_CHECKING:
    from edgepack.codec.segments import Beside

_SUBGRAPHS, _BUFFERS, _TENSORS = 2, 4, 0
_SHAPE, _TYPE, _BUFFER, _NAME, _QUANTIZATION = 0, 1, 2, 3, 4
_SCALE, _QUANTIZED_DIMENSION = 2, 6
_DATA, _OFFSET, _SIZE = 0, 1, 2  # of a Buffer; the latter two where the data lie behind the flatbuffer
_KINDS: dict[int, Kind] = {0: "f32", 1: "f16", 2: "i32", 3: "u8", 7: "i16", 9: "i8", 17: "i4"}
_I8, _I32, _U32, _U64 = (struct.Struct(f"<{letter}") for letter in "biIQ")


def find(data: bytes, name: str, beside: Beside) -> list[Found]:
    """Every constant tensor of a type that there is a coder for, and every vector of scales, as f32 with a name that ends in '/scale'."""
    found: list[Found] = []
    if data[4:8] != b"TFL3":
        return found
    try:
        model = root(data)
        buffers = model.tables(_BUFFERS)
        for subgraph in model.tables(_SUBGRAPHS):
            for tensor in subgraph.tables(_TENSORS):
                found.extend(_of_tensor(tensor, buffers))
    except Damaged:
        return found  # what was read before the damage; the rest is bytes
    return found


def _of_tensor(tensor: Table, buffers: list[Table]) -> list[Found]:
    found = []
    start, length = tensor.vector(_NAME, element_bytes=1)
    name = tensor.data[start : start + length].decode("utf-8", "replace")
    quantization = tensor.table(_QUANTIZATION)
    axis = None
    if quantization is not None:
        place, count = quantization.vector(_SCALE, element_bytes=4)
        axis = quantization.scalar(_QUANTIZED_DIMENSION, _I32) if count > 1 else None
        if count:
            found.append(_scales(f"{name}/scale", place, count))
    kind = _KINDS.get(tensor.scalar(_TYPE, _I8))
    number = tensor.scalar(_BUFFER, _U32)
    if kind is not None and 0 < number < len(buffers):
        place, size_bytes = buffer_place(buffers[number])
        shape = tensor_shape(tensor)
        found.append(
            Found(
                offset=place,
                size_bytes=size_bytes,
                kind=kind,
                shape=shape,
                channel_axis=axis if axis is not None or len(shape) < 2 else 0,
                name=name,
            )
        )
    return found


def _scales(name: str, place: int, count: int) -> Found:
    return Found(offset=place, size_bytes=4 * count, kind="f32", shape=(count,), channel_axis=None, name=name)


def buffer_place(buffer: Table) -> tuple[int, int]:
    """Offset and length of a buffer's data."""
    offset = buffer.scalar(_OFFSET, _U64)
    if offset > 1:  # 0 and 1 mean: inside the flatbuffer
        return offset, buffer.scalar(_SIZE, _U64)
    return buffer.vector(_DATA, element_bytes=1)


def tensor_shape(tensor: Table) -> tuple[int, ...]:
    """The dimensions of a tensor; one of size 1 for a number."""
    start, count = tensor.vector(_SHAPE, element_bytes=4)
    return tuple(int(size) for size in struct.unpack_from(f"<{min(count, 9)}i", tensor.data, start)) or (1,)
