"""NumPy's `.npy`: one array behind a header of text. numpy.org/doc/stable/reference/generated/numpy.lib.format.html."""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING, Any

from edgepack.codec.segments.tile import Found
from edgepack.codec.types import BITS, Kind

if TYPE_CHECKING:
    from edgepack.codec.segments import Beside

_MAGIC = b"\x93NUMPY"
_HEADER_BYTES_MAX = 10_000  # NumPy's own limit
_KINDS: dict[str, Kind] = {"|i1": "i8", "|u1": "u8", "<i2": "i16", "<i4": "i32", "<f2": "f16", "<f4": "f32"}


def find(data: bytes, name: str, beside: Beside) -> list[Found]:
    """The array; [] for another dtype, Fortran order, or anything that isn't read as a header."""
    header, start = _header(data)
    kind = _KINDS.get(header.get("descr", "")) if isinstance(header.get("descr"), str) else None
    shape = header.get("shape")
    if kind is None or header.get("fortran_order") is not False or not isinstance(shape, tuple):
        return []
    if not all(type(size) is int and size >= 0 for size in shape):
        return []
    size_bytes = math.prod(shape) * BITS[kind] // 8
    axis = len(shape) - 1 if len(shape) > 1 else None
    return [Found(offset=start, size_bytes=size_bytes, kind=kind, shape=shape, channel_axis=axis, name=name)]


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header's dictionary and where the data begin; an empty one where there is none."""
    if data[:6] != _MAGIC or len(data) < 12:
        return {}, 0
    wide = 4 if data[6] >= 2 else 2
    start = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
    if start > min(len(data), _HEADER_BYTES_MAX):
        return {}, 0
    try:
        header = ast.literal_eval(data[8 + wide : start].decode("latin-1").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # what literal_eval says of text that is no literal
        return {}, 0
    return (header, start) if isinstance(header, dict) else ({}, 0)
