"""Coders `adaptive` and `mix` in plain Python (epk_weights.c)."""

from __future__ import annotations

from edgepack.codec.reference.arith import STRETCH_MAX, Damaged, Mixer, Params, Slot, counter, log4, tables
from edgepack.codec.reference.around import Around, Column, Row, sign_contexts, sign_of, tree_contexts, zero_contexts
from edgepack.codec.types import Segment

_TRANSPOSED, _INNER, _GROUP, _PALETTE, _CENTRE, _BASE = 1, 2, 4, 8, 16, 32
_SEEN_PRIOR = 18
_CHANGES_PRIOR = 12
_UPPER_BITS = 3
_LOWER_CONTEXTS = 5
_ZERO_SIZES = (1, 64, 64, 64, 256, 64, 1024, 2048, 64, 64, 256, 1024, 512)
_SIGN_SIZES = (1, 9, 9, 81, 27, 96, 27, 9, 27)
_TREE_SIZES = (1, 64, 64, 64, 64, 64, 64, 1024, 1024, 256, 64, 512, 64)
# What changes of a base are predicted by.
_ZERO_ON_BASE, _SIGN_ON_BASE, _TREE_ON_BASE = (1, 2, 6, 10), (0, 7), (0, 1, 2, 10)
_SET_ZERO, _SET_SIGN, _SET_NODES, _SET_LEVELS = 0, 1, 2, 44


class _Model:
    """The parameters, and the codes decoded so far."""

    def __init__(self, params: Params, segment: Segment, base: bytes | None) -> None:
        self.mask = 15 if segment.kind in ("i4", "u4") else 255
        self.count = segment.size_bytes * (2 if self.mask == 15 else 1)
        self.flags, second, level = params.byte(), params.byte(), params.byte() & 63
        self.bits, self.density = second & 7, (second >> 3) * 128 + 64
        self.mean = (4 + (level & 3)) << (level >> 2) >> 2
        line = params.varint()
        line = self.count if line == 0 or line > self.count else line
        self.inner = params.varint() if self.flags & _INNER else 0
        self.group = params.varint() if self.flags & _GROUP else 0
        centre = params.byte() if self.flags & _CENTRE else {"u8": 128, "u4": 8}.get(segment.kind, 0)
        self.base = base if self.flags & _BASE else None
        if self.flags & _BASE and (base is None or self.flags & _PALETTE):
            raise Damaged
        self._number_codes(0 if self.flags & _BASE else centre)
        if self.flags & _PALETTE:
            self._read_palette(params)
        if self.inner >> 30 or self.group >> 30:
            raise Damaged
        self.largest = (1 << self.bits) - 1
        self.few_in_row = 4 if self.base is None else _CHANGES_PRIOR * 4096 // self.density
        self.few_in_column = 2 if self.base is None else self.few_in_row
        self.line, self.lines, self.stride = line, -(-self.count // line), 1
        self.is_transposed = bool(self.flags & _TRANSPOSED)
        if self.is_transposed:
            if self.count % line:
                raise Damaged
            self.line, self.lines, self.stride = self.lines, line, line
        self.out = bytearray(segment.size_bytes)

    def _number_codes(self, centre: int) -> None:
        half = (self.mask + 1) // 2
        self.code_of = {value: value + centre & self.mask for value in range(-256, 257)}
        self.value_of = [0] * 256
        for value in range(-half, half):
            self.value_of[self.code_of[value]] = value

    def _read_palette(self, params: Params) -> None:
        count, centre = params.byte() + 1, params.byte()
        if count > 128 or count > self.mask + 1 or centre >= count:
            raise Damaged
        for rank in range(count):
            code = params.byte() & self.mask
            self.value_of[code] = rank - centre
            self.code_of[rank - centre] = code
        for value in range(count - centre, 256):
            self.code_of[value] = self.code_of[count - centre - 1]
        for value in range(centre + 1, 257):
            self.code_of[-value] = self.code_of[-centre]

    def code_at(self, data: bytes | bytearray, index: int) -> int:
        return data[index] if self.mask == 255 else data[index >> 1] >> (4 if index & 1 else 0) & 15

    def index_of(self, row: int, at: int) -> int:
        return at * self.stride + row if self.is_transposed else row * self.line + at

    def value_at(self, index: int) -> int:
        code = self.code_at(self.out, index)
        if self.base is not None:
            code = code - self.code_at(self.base, index) & self.mask
        return self.value_of[code]

    def base_value(self, index: int) -> int:
        if self.base is None:
            return 0
        code = self.code_at(self.base, index)
        return code - self.mask - 1 if code >= (self.mask + 1) // 2 else code

    def base_level(self, row: int) -> int:
        if self.base is None:
            return 0
        indices = [self.index_of(row, c) for c in range(self.line)]
        sizes = [abs(self.base_value(index)) for index in indices if index < self.count]
        mean = sum(sizes) * 16 // len(sizes) if sizes else 0
        return min(max(log4(mean * mean) - 32, 0), 63)

    def put(self, index: int, value: int) -> None:
        code = self.code_of[value]
        if self.base is not None:
            code = code + self.code_at(self.base, index) & self.mask
        if self.mask == 255:
            self.out[index] = code
        else:
            self.out[index >> 1] |= code << (4 if index & 1 else 0)


class _Values:
    """Decodes value after value by the contexts' counters."""

    def __init__(self, m: _Model, payload: bytes, *, is_mixing: bool) -> None:
        self.m, self.is_mixing, self.has_base = m, is_mixing, m.base is not None
        weight, rate_lowest = (27, 1) if self.has_base else (9, 2)
        limit = 1000 if is_mixing or self.has_base else 127
        self.mixer = Mixer(payload, weight=65536 * weight // 100, limit=limit, rate_lowest=rate_lowest)
        self.zero = [[counter((4096 - m.density) * 15 + 2048, 4)] * size for size in _ZERO_SIZES]
        self.sign = [[counter(32768, 0)] * size for size in _SIGN_SIZES]
        self.tree = [self._first_tree(k) for k in range(len(_TREE_SIZES))]

    def _first_tree(self, k: int) -> list[int]:
        usual = self.m.mean * 4096 // self.m.density
        made: list[int] = []
        for i in range(_TREE_SIZES[k]):
            own = k in (1, 2, 3, 5, 6)
            made += self._guess(_mean_of(i) if own else _mean_of(i % 32 * 2) if k in (7, 11) else usual)
        return made

    def _guess(self, mean: int) -> list[int]:
        """A magnitude's bit of weight 2^at: the half of a geometric distribution."""
        nodes = [0]
        for at in range(self.m.bits - 1, -1, -1):
            one = tables().squash[STRETCH_MAX + max(-((65536 << at) // max(mean, 1)), -STRETCH_MAX)]
            nodes += [counter(max(one, 64), _SEEN_PRIOR)] * len(nodes)
        return nodes

    def _bit(
        self, slots: list[Slot], only: int, sets: tuple[int, int], chosen: tuple[int, ...], *, upto: int = 16
    ) -> int:
        if not self.is_mixing:
            return self.mixer.single_bit(slots[only])
        return self.mixer.bit([slots[i] for i in chosen] if self.has_base else slots[:upto], *sets)

    def value(self, a: Around, signs: int) -> int:
        level = min(log4(a.all) // 4, 15)
        slots = list(zip(self.zero, zero_contexts(a, has_base=self.has_base), strict=True))
        if self._bit(slots, 6, (_SET_ZERO, _SET_LEVELS + level), _ZERO_ON_BASE):
            return 0
        slots = list(zip(self.sign, sign_contexts(a, signs), strict=True))
        second = _SET_LEVELS + 16 + sign_of(a.up) * 3 + sign_of(a.left)
        is_positive = self._bit(slots, 7 if self.has_base else 1, (_SET_SIGN, second), _SIGN_ON_BASE)
        size = self._magnitude(a, level)
        return size if is_positive else -size

    def _magnitude(self, a: Around, level: int) -> int:
        node, size = 1, 1 << self.m.bits
        at = tree_contexts(a, has_base=self.has_base)
        for bit_at in range(self.m.bits - 1, -1, -1):
            count = _LOWER_CONTEXTS if self.m.bits - bit_at > _UPPER_BITS else len(at)
            slots = [(tree, at[i] * size + node) for i, tree in enumerate(self.tree)]
            sets = (_SET_NODES + (node if node < 32 else 32 + bit_at), _SET_LEVELS + (2 + bit_at) * 16 + level)
            node = node * 2 + self._bit(slots, 3, sets, _TREE_ON_BASE, upto=count)
        return node - size + 1


def _mean_of(level: int) -> int:
    mean = (4 + (level & 3)) << (level >> 2) >> 2
    return mean + (mean >> 3)


def _decode_line(m: _Model, values: _Values, columns: list[Column], r: int) -> None:
    row, a, in_group = Row(), Around(base_level=m.base_level(r)), 0
    for c in range(m.line):
        index = m.index_of(r, c)
        if index >= m.count:
            return
        if m.group and in_group == m.group:
            in_group, row.largest = 0, 0
        a.look_at_neighbours(m, r, c, index)
        a.look_at_lines(m, row, columns[c])
        a.has_largest = int(row.largest >= m.largest)
        a.place = m.group - 1 - in_group if m.group else m.line - 1 - c
        a.smallest = row.smallest
        value = values.value(a, columns[c].signs)
        m.put(index, value)
        a.learn(m, row, columns[c], value)
        in_group += 1


def _decode(params: Params, payload: bytes, segment: Segment, base: bytes | None, *, is_mixing: bool) -> bytes:
    m = _Model(params, segment, base)
    values = _Values(m, payload, is_mixing=is_mixing)
    columns = [Column() for _ in range(m.line)]
    for r in range(m.lines):
        _decode_line(m, values, columns, r)
    values.mixer.arith.check_end()
    return bytes(m.out)


def decode_adaptive(params: Params, payload: bytes, segment: Segment, base: bytes | None) -> bytes:
    """The segment's bytes. Raises Damaged."""
    return _decode(params, payload, segment, base, is_mixing=False)


def decode_mix(params: Params, payload: bytes, segment: Segment, base: bytes | None) -> bytes:
    """The segment's bytes. Raises Damaged."""
    return _decode(params, payload, segment, base, is_mixing=True)
