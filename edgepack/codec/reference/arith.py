"""Tables, arithmetic decoder, counters and mixer (epk_mixer.c, epk_internal.h)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

STRETCH_MAX = 3071
_RATE_FIRST = 48
_WEIGHT_MAX = 1 << 22
_HALF_WEIGHT = 1 << 19


class Damaged(Exception):
    """The stream, its parameters or its sizes contradict themselves."""


class Params:
    """A segment's parameters, read from their start. Raises Damaged when they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        if self._at >= len(self._data):
            raise Damaged
        self._at += 1
        return self._data[self._at - 1]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 0xFFFFFFFF
        raise Damaged


@dataclass(frozen=True, slots=True)
class Tables:
    """Stretched probabilities are ln(p / (1 - p)) × 256; `squash` is indexed from -STRETCH_MAX on."""

    squash: tuple[int, ...]
    stretch: tuple[int, ...]
    step: tuple[int, ...]
    trust: tuple[int, ...]


@functools.cache
def tables() -> Tables:
    """All from integers: see docs/codec.md."""
    squash = [0] * (2 * STRETCH_MAX + 1)
    power = 1 << 31
    for x in range(STRETCH_MAX + 1):
        one = min((1 << 47) // ((1 << 31) + power), 65535)
        squash[STRETCH_MAX + x], squash[STRETCH_MAX - x] = one, 65536 - one
        power = power * 4278222819 >> 32
    stretch, x = [], -STRETCH_MAX
    for i in range(4096):
        while x < STRETCH_MAX and squash[STRETCH_MAX + x] < 16 * i + 8:
            x += 1
        stretch.append(x)
    return Tables(
        tuple(squash),
        tuple(stretch),
        tuple(65536 // (2 * i + 3) for i in range(1024)),
        tuple(256 * (i + 1) // (i + 3) for i in range(1024)),
    )


def log4(value: int) -> int:
    """4 × log2(value), rounded down to quarters by the two bits below the highest; 0 for 0 and 1."""
    if value < 2:
        return 0
    top = value.bit_length() - 1
    return 4 * top + ((value >> (top - 2) if top >= 2 else value << (2 - top)) & 3)


def counter(probability_16: int, seen: int) -> int:
    """A probability (22 bits) and how often it was seen (10 bits)."""
    return probability_16 << 16 | seen


def counter_next(state: int, bit: int, limit: int) -> int:
    """The counter after a bit: it moves by 1 / (seen + 1.5) of the way."""
    seen, p = state & 1023, state >> 10
    step = tables().step[seen]
    if bit:
        p += ((4194303 - p) >> 6) * step >> 9
    else:
        p -= (p >> 6) * step >> 9
    return p << 10 | (seen + 1 if seen < limit else seen)


def clamp(value: int, lowest: int, highest: int) -> int:
    """The nearest value within both."""
    return max(lowest, min(value, highest))


class Arith:
    """Binary arithmetic decoder: a 32-bit interval, probabilities of 2^-16; past its end the stream is zeros."""

    def __init__(self, payload: bytes) -> None:
        self._in, self._at = payload, 0
        self._low, self._high, self._code = 0, 0xFFFFFFFF, 0
        for _ in range(4):
            self._code = self._code << 8 | self._next()

    def _next(self) -> int:
        if self._at >= len(self._in):
            return 0
        self._at += 1
        return self._in[self._at - 1]

    def bit(self, one: int) -> int:
        """The next bit, whose probability to be 1 is `one`."""
        middle = self._low + ((self._high - self._low) * one >> 16)
        bit = int(self._code <= middle)
        if bit:
            self._high = middle
        else:
            self._low = middle + 1
        while (self._low ^ self._high) >> 24 == 0:
            self._code = (self._code << 8 & 0xFFFFFFFF) | self._next()
            self._low = self._low << 8 & 0xFFFFFFFF
            self._high = (self._high << 8 & 0xFFFFFFFF) | 255
        return bit

    def check_end(self) -> None:
        """Raise Damaged when bytes are left."""
        if self._at < len(self._in) and len(self._in) >= 4:
            raise Damaged


Slot = tuple[list[int], int]  # a list of counters and an index


class Mixer:
    """Two sets of weights mix what the slots predict; their mean predicts the bit."""

    def __init__(self, payload: bytes, *, weight: int, limit: int, rate_lowest: int, has_maps: bool = False) -> None:
        self.arith = Arith(payload)
        self._weight, self._limit, self._rate_lowest = weight, limit, rate_lowest
        self._weights: dict[int, list[int]] = {}
        self._uses: dict[int, int] = {}
        self._maps: dict[int, list[int]] | None = {} if has_maps else None

    def bit(self, slots: list[Slot], first: int, second: int) -> int:
        """The next bit; all that predicted it learns."""
        table = tables()
        inputs, maps = self._inputs(slots)
        dots = [self._dot(chosen, inputs) for chosen in (first, second)]
        p = table.squash[STRETCH_MAX + (sum(dots) >> 1)]
        bit = self.arith.bit(clamp(p, 4, 65532))
        for chosen, dot in zip((first, second), dots, strict=True):
            self._learn(chosen, inputs, (65535 if bit else 0) - table.squash[STRETCH_MAX + dot])
        for states, at in maps:
            states[at] = counter_next(states[at], bit, 1000)
        for states, at in slots:
            states[at] = counter_next(states[at], bit, self._limit)
        return bit

    def single_bit(self, slot: Slot) -> int:
        """The next bit by one counter alone."""
        states, at = slot
        bit = self.arith.bit(clamp(states[at] >> 16, 16, 65520))
        states[at] = counter_next(states[at], bit, self._limit)
        return bit

    def _inputs(self, slots: list[Slot]) -> tuple[list[int], list[Slot]]:
        table = tables()
        inputs: list[int] = []
        maps: list[Slot] = []
        for i, (states, at) in enumerate(slots):
            state = states[at]
            stretched = table.stretch[state >> 20]
            if self._maps is None:
                inputs.append(stretched * table.trust[state & 1023] >> 8)
                continue
            meaning = self._meaning(i, state & 1023, stretched)
            maps.append(meaning)
            inputs.append(table.stretch[meaning[0][meaning[1]] >> 20])
        return [*inputs, 256], maps

    def _meaning(self, i: int, seen: int, stretched: int) -> Slot:
        assert self._maps is not None
        if i not in self._maps:
            squash = tables().squash
            width = 2 * STRETCH_MAX + 1
            self._maps[i] = [counter(squash[(k % 64 * 2 + 1) * width // 128], 20) for k in range(16 * 64)]
        step = seen if seen < 4 else log4(seen) // 2
        return self._maps[i], min(step, 15) * 64 + (stretched + STRETCH_MAX) * 64 // (2 * STRETCH_MAX + 1)

    def _dot(self, chosen: int, inputs: list[int]) -> int:
        weights = self._weights.setdefault(chosen, [self._weight] * 16)
        total = sum(weight * value for weight, value in zip(weights, inputs, strict=False))
        return clamp(total >> 16, -STRETCH_MAX, STRETCH_MAX)

    def _learn(self, chosen: int, inputs: list[int], error: int) -> None:
        uses = self._uses.get(chosen, 0)
        scaled = error * (self._rate_lowest + _RATE_FIRST * 16 // (16 + (uses >> 6)))
        self._uses[chosen] = min(uses + 1, 65535)
        weights = self._weights[chosen]
        for i, value in enumerate(inputs):
            weights[i] = clamp(weights[i] + (value * scaled + _HALF_WEIGHT >> 20), -_WEIGHT_MAX, _WEIGHT_MAX)
