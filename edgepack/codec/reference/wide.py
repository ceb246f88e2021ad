"""Coder `wide` in plain Python (epk_wide.c)."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.codec.reference.arith import Damaged, Mixer, Params, clamp, counter, counter_next
from edgepack.codec.types import Segment

_CONTEXTS = 5
_MODELLED = 3
_SET_SAME, _SET_SIGN, _SET_TOP, _SET_BUCKET = 0, 1, 2, 10
_SET_BEFORE = _SET_BUCKET + 256


@dataclass(frozen=True, slots=True)
class _Parts:
    bucket: int = 0
    sign: int = 0


class _Wide:
    def __init__(self, params: Params, payload: bytes, segment: Segment, base: bytes | None) -> None:
        has_base = params.byte() & 1
        self.line = params.varint()
        self.width = 2 if segment.kind in ("i16", "f16") else 4
        if segment.size_bytes % self.width or (has_base and base is None):
            raise Damaged
        self.base = base if has_base else None
        self.is_float = segment.kind in ("f16", "f32") and self.base is None
        self.sign_bit = 1 << (8 * self.width - 1)
        self.tree_bits = (5 if self.width == 2 else 8) if self.is_float else 5 if self.width == 2 else 6
        self.mixer = Mixer(payload, weight=65536 * 3 // 10, limit=255, rate_lowest=2)
        half = counter(32768, 0)
        self.bucket = [[half] * (256 * 256) for _ in range(_CONTEXTS)]
        self.top = [[half] * (256 * 8), [half] * 8]
        self.sign = [[half] * 4, [half] * 4]
        self.same = [[half] * 16, [half] * 4]
        self.low = [half] * 32

    def element(self, data: bytes | bytearray, index: int) -> int:
        return int.from_bytes(data[index * self.width : (index + 1) * self.width], "little")

    def parts(self, value: int, *, is_float: bool) -> _Parts:
        sign = int(value & self.sign_bit != 0)
        if is_float:
            return _Parts((value & (self.sign_bit - 1)) >> (10 if self.width == 2 else 23), sign)
        return _Parts((-value & (2 * self.sign_bit - 1) if sign else value).bit_length(), sign)

    def _bucket(self, at: list[int], before: int) -> int:
        node = 1
        for _ in range(self.tree_bits):
            slots = [(self.bucket[i], at[i] * 256 + node) for i in range(_CONTEXTS)]
            node = node * 2 + self.mixer.bit(slots, _SET_BUCKET + node, _SET_BEFORE + min(before, 32))
        return node - (1 << self.tree_bits)

    def _low_bit(self, at: int) -> int:
        one = clamp(self.low[at] >> 16, 16, 65520)
        bit = self.mixer.arith.bit(one)
        self.low[at] = counter_next(self.low[at], bit, 1000)
        return bit

    def _rest(self, bucket: int, bits: int) -> int:
        node, rest = 1, 0
        for at in range(bits - 1, -1, -1):
            if node < 1 << _MODELLED:
                slots = [(self.top[0], bucket * 8 + node), (self.top[1], node)]
                bit = self.mixer.bit(slots, _SET_TOP + node, _SET_BEFORE)
                node = node * 2 + bit
            else:
                bit = self._low_bit(at)
            rest |= bit << at
        return rest

    def value(self, before: _Parts, before2: _Parts, above: _Parts, base: _Parts) -> int:
        """The next element, or its difference to the base's."""
        at = [0, before.bucket, (before.bucket + before2.bucket + 1) // 2, above.bucket, base.bucket]
        bucket = self._bucket(at, before.bucket)
        if not self.is_float and bucket > self.width * 8:
            bucket = 0
        bits = (10 if self.width == 2 else 23) if self.is_float else max(bucket - 1, 0)
        sign = 0
        if bucket or self.is_float:
            slots = [(self.sign[0], before.sign * 2 + before2.sign), (self.sign[1], above.sign * 2 + base.sign)]
            sign = self.mixer.bit(slots, _SET_SIGN, _SET_BEFORE + 1)
        rest = self._rest(bucket, bits)
        if self.is_float:
            return (self.sign_bit if sign else 0) | bucket << bits | rest
        size = 1 << bits | rest if bucket else 0
        return (-size if sign else size) & (2 * self.sign_bit - 1)


def decode_wide(params: Params, payload: bytes, segment: Segment, base: bytes | None) -> bytes:
    """The segment's bytes. Raises Damaged."""
    m = _Wide(params, payload, segment, base)
    out = bytearray(segment.size_bytes)
    mask = 2 * m.sign_bit - 1
    before = before2 = _Parts()
    values: list[int] = []
    history = last = 0
    for i in range(segment.size_bytes // m.width):
        reference = m.element(m.base, i) if m.base is not None else 0
        slots = [(m.same[0], history & 15), (m.same[1], (m.line != 0 and i % m.line == 0) * 2 + (history & 1))]
        is_same = m.mixer.bit(slots, _SET_SAME, _SET_BEFORE + 2)
        above = m.parts(values[i - m.line], is_float=m.is_float) if m.line and i >= m.line else _Parts()
        value = last if is_same else m.value(before, before2, above, m.parts(reference, is_float=False))
        values.append(value)
        out[i * m.width : (i + 1) * m.width] = (value + reference & mask).to_bytes(m.width, "little")
        before, before2 = m.parts(value, is_float=m.is_float), before
        history, last = history << 1 & 0xFFFFFFFF | is_same, value
    m.mixer.arith.check_end()
    return bytes(out)
