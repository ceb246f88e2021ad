"""From what a finder saw to segments that tile the file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from edgepack.codec.types import BITS, Kind, Segment

_DIMENSIONS_MAX = 8
_DIMENSION_MAX = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A tensor as a file describes it: `size_bytes` from `offset`. Nothing of it is checked yet."""

    offset: int
    size_bytes: int
    kind: Kind
    shape: tuple[int, ...]
    channel_axis: int | None
    name: str


def tiled(size_bytes: int, found: Iterable[Found]) -> tuple[Segment, ...]:
    """Segments of a file of `size_bytes`: the tensors that are plausible and overlap none before them, and bytes between them.

    Of tensors that overlap, the one that begins first is kept, and of those the longest.
    """
    segments: list[Segment] = []
    position = 0
    for one in sorted(found, key=lambda one: (one.offset, -one.size_bytes)):
        if one.offset < position or one.offset + one.size_bytes > size_bytes or not is_plausible(one):
            continue
        if one.offset > position:
            segments.append(Segment(size_bytes=one.offset - position))
        axis = one.channel_axis if one.channel_axis is not None and 0 <= one.channel_axis < len(one.shape) else None
        segments.append(
            Segment(size_bytes=one.size_bytes, kind=one.kind, shape=one.shape, channel_axis=axis, name=one.name)
        )
        position = one.offset + one.size_bytes
    if position < size_bytes:
        segments.append(Segment(size_bytes=size_bytes - position))
    return tuple(segments)


def is_plausible(one: Found) -> bool:
    """Whether the shape is that of `size_bytes` bytes, and not empty."""
    if not 1 <= len(one.shape) <= _DIMENSIONS_MAX or not all(0 < size < _DIMENSION_MAX for size in one.shape):
        return False
    return one.size_bytes == (math.prod(one.shape) * BITS[one.kind] + 7) // 8
