"""safetensors: a JSON header with the offsets of every tensor. github.com/huggingface/safetensors, README, "Format"."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edgepack.codec.segments.tile import Found
from edgepack.codec.types import Kind

if TYPE_CHECKING:
    from edgepack.codec.segments import Beside

_HEADER_BYTES_MAX = 100_000_000  # the library's own limit
_KINDS: dict[str, Kind] = {"I8": "i8", "U8": "u8", "I16": "i16", "I32": "i32", "F16": "f16", "F32": "f32"}


def find(data: bytes, name: str, beside: Beside) -> list[Found]:
    """Every tensor of a dtype that there is a coder for."""
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < 8 or start > min(len(data), _HEADER_BYTES_MAX):
        return []
    try:
        header = json.loads(data[8:start])
    except (ValueError, RecursionError):
        return []
    if not isinstance(header, dict):
        return []
    described = ((key, value) for key, value in header.items() if isinstance(value, dict))
    return [found for key, value in described if (found := _tensor(key, value, start)) is not None]


def _tensor(name: str, content: dict[str, Any], start: int) -> Found | None:
    kind = _KINDS.get(content["dtype"]) if isinstance(content.get("dtype"), str) else None
    shape, offsets = _sizes(content.get("shape")), _sizes(content.get("data_offsets"))
    if kind is None or shape is None or offsets is None or len(offsets) != 2:
        return None
    return Found(
        offset=start + offsets[0],
        size_bytes=offsets[1] - offsets[0],
        kind=kind,
        shape=shape or (1,),
        channel_axis=0 if len(shape) > 1 else None,
        name=name,
    )


def _sizes(value: Any) -> tuple[int, ...] | None:
    """A list of numbers ≥ 0; None for anything else."""
    if isinstance(value, list) and all(type(size) is int and size >= 0 for size in value):
        return tuple(value)
    return None
