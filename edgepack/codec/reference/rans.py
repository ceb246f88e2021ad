"""Coder `rans` in plain Python (epk_rans.c)."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgepack.codec.reference.arith import Damaged, Params, clamp, log4
from edgepack.codec.types import Segment

_LEVELS = 64
_TOTAL = 65536
_SEEN = 16
_FIRST_PAUSE = 16
_LAST_PAUSE = 2048
_RATE = 6
_COUNTS_MAX = 1 << 22
_PREDICTS = 32


@dataclass(slots=True)
class _Distribution:
    counts: list[int]
    start: list[int] = field(default_factory=list)
    pause: int = _FIRST_PAUSE
    left: int = 0

    def draw_up(self) -> None:
        """The counts as shares of 2^16, each symbol's at least 1."""
        total = sum(self.counts)
        if total > _COUNTS_MAX:
            self.counts = [(count + 1) // 2 for count in self.counts]
            total = sum(self.counts)
        scale = (_TOTAL - len(self.counts) << 32) // total
        self.start, before = [], 0
        for symbol, count in enumerate(self.counts):
            self.start.append((before * scale >> 32) + symbol)
            before += count
        self.start.append(_TOTAL)
        self.pause = min(self.pause + self.pause // 2, _LAST_PAUSE)
        self.left = self.pause

    def learn(self, symbol: int) -> None:
        self.counts[symbol] += _SEEN
        self.left -= 1
        if self.left == 0:
            self.draw_up()


@dataclass(slots=True)
class _Running:
    """Running means: of nonzero magnitudes (2^-6) and of how many there are (2^-14)."""

    size: int
    filled: int

    def move(self, size: int, rate: int) -> None:
        self.filled += -(self.filled >> rate) + (16384 >> rate if size else 0)
        if size:
            self.size += -(self.size >> rate) + (size << 6 >> rate)


class _Rans:
    def __init__(self, params: Params, payload: bytes, segment: Segment) -> None:
        self.mask = 15 if segment.kind in ("i4", "u4") else 255
        self.count = segment.size_bytes * (2 if self.mask == 15 else 1)
        self.symbols = params.byte() + 1
        self.tensor_filled = (params.byte() & 31) * 512 + 256
        level = params.byte() & 63
        grain = params.byte()
        self.size_step = min(grain & 7, 6)
        self.shares = 1 << (grain >> 3 & 3)
        self.tensor_size = clamp((((4 + (level & 3)) << (level >> 2)) >> 4) * 16384 // self.tensor_filled, 64, 128 * 64)
        self.line = params.varint()
        self.centre = params.byte()
        self.left = self.up = 0
        if grain & _PREDICTS:
            self.left, self.up = params.varint(), params.varint()
            if self.left == 0 or self.up == 0 or self.mask == 15:
                raise Damaged
        if not 2 <= self.symbols <= 129:
            raise Damaged
        if self.line == 0 or self.line > self.count:
            self.line = self.count
        self.levels = [self._guess(i) for i in range(self.shares * (_LEVELS >> self.size_step))]
        self.payload, self.at = payload, 8
        states = payload[:8].ljust(8, b"\0")
        self.state = [int.from_bytes(states[:4], "little"), int.from_bytes(states[4:], "little")]
        self.out = bytearray(segment.size_bytes)

    def _guess(self, i: int) -> _Distribution:
        """Zeros as the level has them, magnitudes geometric with the level's mean."""
        per_share = _LEVELS >> self.size_step
        at = ((i % per_share * 2 + 1) << self.size_step) // 2
        size = self.tensor_size if self.size_step == 6 else (4 + (at & 3)) << (at >> 2) >> 2
        filled = self.tensor_filled if self.shares == 1 else (i // per_share * 2 + 1) * 8192 // self.shares
        ratio = 65536 - 65536 * 64 // max(size, 72)
        share = filled * 128 * (65536 - ratio) >> 16
        counts = [(16384 - filled) // 4 + 1]
        for _ in range(1, self.symbols):
            counts.append(share // 512 + 1)
            share = share * ratio >> 16
        made = _Distribution(counts)
        made.draw_up()
        return made

    def start(self) -> _Running:
        return _Running(self.tensor_size, self.tensor_filled)

    def distribution_for(self, row: _Running, column: _Running) -> _Distribution:
        filled = row.filled * column.filled // self.tensor_filled
        size = log4(row.size + 1)
        if not self.up:
            size += log4(column.size + 1) - log4(self.tensor_size + 1)
        share = self.shares - 1 if filled >= 16384 else filled * self.shares >> 14
        return self.levels[share * (_LEVELS >> self.size_step) + (clamp(size, 0, _LEVELS - 1) >> self.size_step)]

    def _refilled(self, state: int) -> int:
        if state >= _TOTAL:
            return state
        word = self.payload[self.at : self.at + 2].ljust(2, b"\0")
        self.at = min(self.at + 2, max(len(self.payload), self.at))
        return (state << 16 | int.from_bytes(word, "little")) & 0xFFFFFFFF

    def next_value(self, distribution: _Distribution, which: int) -> int:
        """A magnitude by the distribution, a sign as it is."""
        state, start = self.state[which], distribution.start
        slot, symbol, sign = state & (_TOTAL - 1), 0, 0
        while start[symbol + 1] <= slot:
            symbol += 1
        state = self._refilled((start[symbol + 1] - start[symbol]) * (state >> 16) + slot - start[symbol])
        if symbol:
            sign = state & 1
            state = self._refilled(state >> 1)
        self.state[which] = state
        distribution.learn(symbol)
        return -symbol if sign else symbol

    def put(self, index: int, value: int) -> None:
        code = value + self.centre & self.mask
        if self.mask == 255:
            self.out[index] = code
        else:
            self.out[index >> 1] |= code << (4 if index & 1 else 0)

    def sample(self, index: int) -> int:
        return self.out[index] - self.centre - 128 & 255

    def predicted(self, index: int) -> tuple[int, int]:
        """The median of left, up and left + up - corner; and how far those lie apart."""
        left = self.sample(index - self.left) if index >= self.left else 128
        up = self.sample(index - self.up) if index >= self.up else left
        corner = self.sample(index - self.left - self.up) if index >= self.left + self.up else up
        low, high = min(left, up), max(left, up)
        median = low if corner >= high else high if corner <= low else left + up - corner
        return median, abs(left - corner) + abs(up - corner)


def _decode_image(coded: _Rans) -> None:
    for index in range(coded.count):
        prediction, edges = coded.predicted(index)
        around = _Running(edges * 32 + 32, coded.tensor_filled)
        value = coded.next_value(coded.distribution_for(around, around), index & 1)
        coded.put(index, value + prediction + 128)


def _decode_rows(coded: _Rans) -> None:
    columns = [coded.start() for _ in range(coded.line)]
    row, column, rows, row_rate, column_rate = coded.start(), 0, 0, 2, 2
    for index in range(coded.count):
        value = coded.next_value(coded.distribution_for(row, columns[column]), index & 1)
        coded.put(index, value)
        row.move(abs(value), row_rate)
        columns[column].move(abs(value), column_rate)
        if row_rate < _RATE and column >> row_rate:
            row_rate += 1
        column += 1
        if column < coded.line:
            continue
        row, column, row_rate = coded.start(), 0, 2
        if column_rate < _RATE:
            rows += 1
            column_rate += bool(rows >> column_rate)


def decode_rans(params: Params, payload: bytes, segment: Segment, base: bytes | None) -> bytes:
    """The segment's bytes. Raises Damaged."""
    coded = _Rans(params, payload, segment)
    if coded.up:
        _decode_image(coded)
    else:
        _decode_rows(coded)
    if coded.at < len(payload):
        raise Damaged
    return bytes(coded.out)
