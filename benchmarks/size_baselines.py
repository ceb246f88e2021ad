"""What others make of the same weights: bits a weight by zstd, xz, brotli, Huffman codes and the entropy of single values."""

from __future__ import annotations

import heapq
import lzma
import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
# A canonical Huffman code is told by the lengths of its codes, 5 bits each; one more byte says how many there are.
_BITS_PER_LENGTH = 5


def zstd_bytes(data: bytes) -> int:
    import zstandard

    return len(zstandard.ZstdCompressor(level=19).compress(data))


def xz_bytes(data: bytes) -> int:
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def brotli_bytes(data: bytes) -> int:
    import brotli

    return len(brotli.compress(data, quality=11, lgwin=24))


def huffman_bytes(codes: Codes) -> int:
    """One code a tensor, its table included."""
    counts = np.bincount(codes, minlength=1)
    present = [int(count) for count in counts if count]
    table_bits = 8 + _BITS_PER_LENGTH * (int(codes.max()) - int(codes.min()) + 1)
    return -(-(table_bits + _huffman_bits(present)) // 8)


def _huffman_bits(counts: list[int]) -> int:
    if len(counts) == 1:
        return counts[0]
    heapq.heapify(counts)
    total = 0
    while len(counts) > 1:
        merged = heapq.heappop(counts) + heapq.heappop(counts)
        total += merged
        heapq.heappush(counts, merged)
    return total


def entropy_bytes(codes: Codes) -> float:
    """Zero-order entropy of one tensor, without any table: what no code of single values gets below."""
    counts = np.bincount(codes)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / len(codes))).sum()) / 8


WHOLE: dict[str, Callable[[bytes], int]] = {"zstd -19": zstd_bytes, "xz": xz_bytes, "brotli": brotli_bytes}
PER_TENSOR: dict[str, Callable[[Codes], float]] = {"Huffman": huffman_bytes, "entropy": entropy_bytes}


def baselines(tensors: Iterable[tuple[bytes, Codes]]) -> dict[str, float]:
    """Bytes by each baseline: the general ones code all tensors in one, the others each by itself."""
    tensors = list(tensors)
    whole = b"".join(data for data, _ in tensors)
    found: dict[str, float] = {name: size(whole) for name, size in WHOLE.items()}
    return found | {name: math.fsum(size(codes) for _, codes in tensors) for name, size in PER_TENSOR.items()}
