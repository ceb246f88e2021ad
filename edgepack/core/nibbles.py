"""Codes of four bits, two in a byte, the low half first: how LiteRT, ONNX and OpenVINO store them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def packed(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """The codes -8 … 7 of an array, flat in C order; the last half byte is 0 where their number is odd."""
    halves = np.zeros(codes.size + codes.size % 2, np.uint8)
    halves[: codes.size] = codes.astype(np.int8).ravel().view(np.uint8) & 15
    made: NDArray[np.uint8] = halves[0::2] | np.left_shift(halves[1::2], 4, dtype=np.uint8)
    return made


def unpacked(data: NDArray[np.uint8], count: int) -> NDArray[np.int8]:
    """The first `count` codes of packed bytes."""
    halves = np.stack([data & 15, data >> 4], axis=1).ravel()[:count].astype(np.int8)
    codes: NDArray[np.int8] = np.where(halves > 7, halves - 16, halves).astype(np.int8)
    return codes
