"""Coder `bytes` in plain Python (epk_bytes.c)."""

from __future__ import annotations

import functools

from edgepack.codec.compiling import SOURCES
from edgepack.codec.reference.arith import Damaged, Mixer, Params, Slot, counter
from edgepack.codec.types import Segment

_CONTEXTS, _QUICK_CONTEXTS = 12, 5
_LENGTH_LOWEST = 4
_QUICK, _BASE, _HISTORY = 1, 2, 4
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" + bytes(range(128, 256)))
_U32 = 0xFFFFFFFF


def _hash(a: int, b: int) -> int:
    h = (a * 0x2C1B3C6D ^ (b + 0x9E3779B9 & _U32) * 0x297A2D39) & _U32
    h ^= h >> 15
    h = h * 0x85EBCA6B & _U32
    return h ^ h >> 13


@functools.cache
def _history() -> bytes:
    """What a bundle's texts are like: the numbers of epk_history.h."""
    numbers = (SOURCES / "epk_history.h").read_text(encoding="utf-8").partition("{")[2].partition("}")[0]
    return bytes(int(number) for number in numbers.replace("\n", " ").split(",") if number.strip())


def _bits_for(size: int, lowest: int) -> int:
    bits = lowest
    while bits < 18 and 1 << bits < size:
        bits += 1
    return bits


class _Bytes:
    def __init__(self, params: Params, payload: bytes, segment: Segment, base: bytes | None) -> None:
        flags = params.byte()
        self.stride = params.varint()
        if (flags & _BASE and base is None) or self.stride >> 30:
            raise Damaged
        self.is_quick = bool(flags & _QUICK)
        if flags & _HISTORY and flags & _BASE:
            raise Damaged
        known = _history() if flags & _HISTORY else base if flags & _BASE else None
        self.whole = bytearray(known or b"")
        self.base_size = len(self.whole)
        self.table_bits = _bits_for(segment.size_bytes * 8, 12)
        self.index_bits = _bits_for(segment.size_bytes + self.base_size, 10)
        self.mixer = Mixer(payload, weight=65536 * 3 // 20, limit=30, rate_lowest=14, has_maps=True)
        count = _QUICK_CONTEXTS if self.is_quick else _CONTEXTS
        self.tables = [[counter(32768, 0)] * (1 << self.table_bits) for _ in range(count)]
        self.match = [counter(49152 if k & 1 else 16384, 0) for k in range(128)]
        self.index: dict[int, int] = {}
        for end in range(_LENGTH_LOWEST, self.base_size + 1):
            self.index[self._index_of(end)] = end
        self.has_match = self.base_size > 0
        self.match_at = self.match_length = self.misses = self.word = 0

    def _index_of(self, end: int) -> int:
        return _hash(int.from_bytes(self.whole[end - 4 : end], "big"), 4) >> (32 - self.index_bits)

    def _before(self, back: int) -> int:
        return self.whole[-back] if 0 < back <= len(self.whole) else 0

    def _hashes(self) -> list[int]:
        c1, c2, c3, c4 = (self._before(back) for back in (1, 2, 3, 4))
        at = len(self.whole) - self.base_size
        up = self._before(self.stride) if self.stride else 0
        corner = self._before(self.stride + 1) if self.stride else 0
        column = at % self.stride if self.stride else 0
        four = c1 | c2 << 8 | c3 << 16 | c4 << 24
        found = [0, c1, c1 | c2 << 8, _hash(up, c1 << 8 | 1), four]
        if not self.is_quick:
            two_up = self._before(2 * self.stride) if self.stride else c3
            found += [
                c1 | c2 << 8 | c3 << 16,
                _hash(four, self._before(5) | self._before(6) << 8),
                self.word,
                _hash(up, column),
                c1 + up - corner & 255,
                c2 | c3 << 8 | (at & 3) << 16,
                _hash(c4, two_up << 8 | up),
            ]
        return [_hash(value, i) for i, value in enumerate(found)]

    def _match_slot(self, expected: int, node: int, bit_at: int) -> int:
        length = self.match_length
        if not expected or expected >> (bit_at + 1) != node:
            return 0
        if length > 7:
            length = 8 + sum(length >= least for least in (12, 16, 24, 32, 64))
        return (min(self.misses, 3) * 16 + length + 1) * 2 + (expected >> bit_at & 1)

    def next_byte(self) -> int:
        hashes = self._hashes()
        expected = self.whole[self.match_at] | 256 if self.has_match else 0
        node = 1
        for bit_at in range(7, -1, -1):
            slots: list[Slot] = [
                (table, _hash(value, node) >> (32 - self.table_bits))
                for table, value in zip(self.tables, hashes, strict=True)
            ]
            slot = self._match_slot(expected, node, bit_at)
            node = node * 2 + self.mixer.bit([*slots, (self.match, slot)], node, 256 + slot // 2)
        self._learn(node & 255, expected)
        return node & 255

    def _learn(self, byte: int, expected: int) -> None:
        self.whole.append(byte)
        if expected and expected & 255 == byte:
            self.match_length = min(self.match_length + 1, 65535)
            if self.match_length > 16:
                self.misses = 0
        elif expected:
            self.match_length = 0
            self.misses += 1
            self.has_match = self.misses <= 8
        self.word = _hash(self.word, byte) if byte in _WORD else 0
        self._find_match()
        if not self.has_match:
            self.match_length = 0

    def _find_match(self) -> None:
        end = len(self.whole)
        self.match_at += 1
        if self.match_at >= end:
            self.has_match = False
        if end < _LENGTH_LOWEST:
            return
        entry = self._index_of(end)
        found = self.index.get(entry, 0)
        if self.match_length < 16 and found:
            length = self._same_before(found, end)
            if length >= _LENGTH_LOWEST and length > self.match_length:
                self.match_at, self.has_match, self.match_length, self.misses = found, True, length, 0
        self.index[entry] = end

    def _same_before(self, found: int, end: int) -> int:
        length = 0
        while length < min(32, found) and self.whole[found - 1 - length] == self.whole[end - 1 - length]:
            length += 1
        return length


def decode_bytes(params: Params, payload: bytes, segment: Segment, base: bytes | None) -> bytes:
    """The segment's bytes. Raises Damaged."""
    coded = _Bytes(params, payload, segment, base)
    for _ in range(segment.size_bytes):
        coded.next_byte()
    coded.mixer.arith.check_end()
    return bytes(coded.whole[coded.base_size :])
