"""Tensors that follow from ones before them: the same values in another layout or sign, or scales times one scale."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.codec.pieces import Piece
from edgepack.codec.types import BITS
from edgepack.codec.wire_ops import Copy, Product

_COPIED_BYTES_MIN = 64  # below, naming the copy costs as much as its bytes
_AXES_MAX = 4  # without those of size 1: 24 orders to try
_CANDIDATES_MAX = 4
_PRODUCT_COUNT_MIN = 6
_SOURCES_MAX = 16  # a bias' scales are the weight's times the input's, and the weight's stand close before them
_FLIP = 0x80


@dataclass(slots=True)
class KnownTensors:
    """What was written so far. `copy_of` and `product_of` ask it, `add` tells it."""

    data: bytes
    alike: dict[tuple[Any, ...], list[Piece]] = field(default_factory=lambda: defaultdict(list))
    scales: dict[int, list[Piece]] = field(default_factory=lambda: defaultdict(list))

    def add(self, piece: Piece) -> None:
        if _can_be_copied(piece):
            self.alike[self._key(piece)].append(piece)
        if piece.segment.kind == "f32":
            self.scales[piece.size_bytes].append(piece)

    def copy_of(self, piece: Piece) -> Copy | None:
        """The copy that gives a tensor; None where no earlier one has its values."""
        if not _can_be_copied(piece):
            return None
        for earlier in self.alike[self._key(piece)][-_CANDIDATES_MAX:]:
            if (found := self._permuted(piece, earlier)) is not None:
                return found
        return None

    def product_of(self, piece: Piece) -> Product | None:
        """The product that gives a vector of float32; None where it is no multiple of one of the last few of its length."""
        if piece.segment.kind != "f32" or piece.size_bytes < 4 * _PRODUCT_COUNT_MIN:
            return None
        values = self._array(piece, "<f4")
        for earlier in reversed(self.scales[piece.size_bytes][-_SOURCES_MAX:]):
            if (factor := _factor(values, self._array(earlier, "<f4"))) is not None:
                return Product(len(values), piece.offset - earlier.offset, factor)
        return None

    def _permuted(self, piece: Piece, earlier: Piece) -> Copy | None:
        element_bytes = BITS[piece.segment.kind] // 8
        flip = _FLIP if {piece.segment.kind, earlier.segment.kind} == {"i8", "u8"} else 0
        shape = tuple(size for size in earlier.segment.shape if size > 1) or (1,)
        wanted = tuple(size for size in piece.segment.shape if size > 1) or (1,)
        source = self._array(earlier, f"<u{element_bytes}").reshape(shape)
        values = self._array(piece, f"<u{element_bytes}") ^ np.array(flip, f"<u{element_bytes}")
        for axes in itertools.permutations(range(len(shape))):
            if tuple(shape[axis] for axis in axes) == wanted:
                moved = source.transpose(axes)
                if np.array_equal(moved[0].ravel(), values[: moved[0].size]) and np.array_equal(moved.ravel(), values):
                    return Copy(element_bytes, shape, axes, flip, piece.offset - earlier.offset)
        return None

    def _key(self, piece: Piece) -> tuple[Any, ...]:
        """Equal for tensors with equal values in any order: sizes of the axes, and sums over the elements."""
        sizes = tuple(sorted(size for size in piece.segment.shape if size > 1))
        if piece.segment.kind in ("i8", "u8"):
            counts = np.bincount(self._array(piece, "u1"), minlength=256)
            signed = np.roll(counts, _FLIP) if piece.segment.kind == "u8" else counts
            return "i8", sizes, signed.tobytes()
        values = self._array(piece, f"<u{BITS[piece.segment.kind] // 8}")
        return piece.segment.kind, sizes, int(values.sum(dtype=np.uint64)), int(np.bitwise_xor.reduce(values))

    def _array(self, piece: Piece, dtype: str) -> NDArray[Any]:
        return np.frombuffer(self.data, np.dtype(dtype), piece.size_bytes // np.dtype(dtype).itemsize, piece.offset)


def _can_be_copied(piece: Piece) -> bool:
    segment = piece.segment
    if segment.kind in ("bytes", "i4", "u4") or piece.size_bytes < _COPIED_BYTES_MIN:
        return False
    return sum(size > 1 for size in segment.shape) <= _AXES_MAX and math.prod(segment.shape) > 0


def _factor(values: NDArray[np.float32], source: NDArray[np.float32]) -> bytes | None:
    """The factor, as float32's bytes, that makes `source` exactly `values`; None where there is none, or a value isn't normal."""
    if not (_are_normal(values) and _are_normal(source)):
        return None
    largest = int(np.argmax(np.abs(source)))
    with np.errstate(all="ignore"):
        near = np.float32(values[largest] / source[largest])
        for factor in (near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))):
            if _are_normal(np.array([factor])) and np.array_equal(source * factor, values):
                return np.array([factor], "<f4").tobytes()
    return None


def _are_normal(values: NDArray[np.float32]) -> bool:
    magnitude = np.abs(values)
    limits = np.finfo(np.float32)
    return bool(np.all((magnitude >= limits.tiny) & (magnitude <= limits.max)))
