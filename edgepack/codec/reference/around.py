"""What a weight's neighbourhood tells, and the contexts that follow from it (epk_weights.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgepack.codec.reference.arith import log4


class View(Protocol):
    """What is asked of the tensor that is being decoded."""

    line: int
    stride: int
    inner: int
    mean: int
    density: int
    few_in_row: int
    few_in_column: int
    is_transposed: bool

    def value_at(self, index: int) -> int: ...

    def base_value(self, index: int) -> int: ...


@dataclass(slots=True)
class Column:
    """What is known of a column: of its values so far."""

    count: int = 0
    nonzero: int = 0
    sum: int = 0
    signs: int = 0


@dataclass(slots=True)
class Row:
    """What is known of the line so far."""

    sum: int = 0
    nonzero: int = 0
    expected_sum: int = 0
    expected_nonzero: int = 0
    largest: int = 0
    smallest: int = 128


@dataclass(slots=True)
class Around:
    """The neighbourhood of the value to be decoded; densities 2^-12, magnitudes 2^-8."""

    left: int = 0
    left2: int = 0
    up: int = 0
    up2: int = 0
    up_left: int = 0
    up_right: int = 0
    inner: int = 0
    inner2: int = 0
    density: int = 0
    row_density: int = 0
    column_density: int = 0
    mean: int = 0
    row_mean: int = 0
    column_mean: int = 0
    near: int = 0
    near2: int = 0
    all: int = 0
    place: int = 0
    has_largest: int = 0
    smallest: int = 128
    base_sign: int = 1
    kernel: int = 0
    base_level: int = 0

    def look_at_neighbours(self, m: View, r: int, c: int, index: int) -> None:
        up, left = (1, m.stride) if m.is_transposed else (m.line, 1)
        self.up_left = self.up if r > 0 and c > 0 else 0
        self.up = (self.up_right if c > 0 else m.value_at(index - up)) if r > 0 else 0
        self.up_right = m.value_at(index - up + left) if r > 0 and c + 1 < m.line else 0
        self.up2 = m.value_at(index - 2 * up) if r > 1 else 0
        self.inner = m.value_at(index - m.inner * left) if m.inner and c >= m.inner else 0
        self.inner2 = m.value_at(index - 2 * m.inner * left) if m.inner and c >= 2 * m.inner else 0
        self.kernel = min(c // m.inner, 31) if m.inner else 0
        self.near = (2 * abs(self.left) + abs(self.left2) + 2 * abs(self.up) + abs(self.up2)) * 43
        sizes = (self.left, self.up, self.inner, self.up_left, self.up_right)
        self.near2 = sum(abs(value) for value in sizes) * 51
        self.base_sign = sign_of(m.base_value(index))

    def look_at_lines(self, m: View, row: Row, column: Column) -> None:
        column_all, few = _column_mean(m, column), m.few_in_column
        row_factor = _factor(row.sum * 256, row.expected_sum, m.mean, 4)
        self.column_density = (column.nonzero * 4096 + m.density * few) // (column.count + few)
        filled = _factor(row.nonzero * 4096, row.expected_nonzero, m.density, m.few_in_row)
        self.density = min(filled * self.column_density >> 12, 4095)
        self.row_density = min(filled * m.density >> 12, 4095)
        all_values = row_factor * column_all >> 12
        self.mean = min((all_values << 12) // (self.density + 1), 65535)
        self.row_mean = min(row_factor * m.mean // (self.row_density + 1), 65535)
        self.column_mean = min((column_all << 12) // (self.column_density + 1), 65535)
        self.all = min(all_values, 65535)

    def learn(self, m: View, row: Row, column: Column, value: int) -> None:
        size = abs(value)
        row.sum += size
        row.nonzero += size != 0
        row.expected_sum += _column_mean(m, column)
        row.expected_nonzero += self.column_density
        row.largest = max(row.largest, size)
        row.smallest = min(row.smallest, size) if size else row.smallest
        column.sum += size
        column.nonzero += size != 0
        column.count += 1
        if column.count >= 1020:
            column.count, column.sum, column.nonzero = column.count // 2, column.sum // 2, column.nonzero // 2
        column.signs = (column.signs * 3 + sign_of(value)) % 81
        self.left, self.left2 = value, self.left
        if row.sum >> 20 or row.expected_sum >> 30 or row.expected_nonzero >> 30:
            row.sum, row.nonzero = row.sum // 2, row.nonzero // 2
            row.expected_sum, row.expected_nonzero = row.expected_sum // 2, row.expected_nonzero // 2


def _column_mean(m: View, column: Column) -> int:
    return (column.sum * 256 + m.mean * m.few_in_column) // (column.count + m.few_in_column)


def _factor(total: int, expected: int, usual: int, count: int) -> int:
    return min((total + usual * count << 12) // (expected + usual * count), 1 << 16)


def sign_of(value: int) -> int:
    """0 for negative, 1 for 0, 2 for positive."""
    return 0 if value < 0 else 1 if value == 0 else 2


def _size_level(value: int) -> int:
    return min(log4(abs(value) * 4 + 1) // 2, 15)


def _density_level(density: int) -> int:
    if density < 2048:
        return min(log4(density + 1) * 3 // 4, 31)
    return 63 - min(log4(4097 - density) * 3 // 4, 31)


def zero_contexts(a: Around, *, has_base: bool) -> list[int]:
    """Which counter of each context predicts whether the value is 0."""
    near, level, row = log4(a.near + 16), _density_level(a.density), _density_level(a.row_density)
    six = (a.left, a.left2, a.up, a.up2, a.up_left, a.up_right)
    around6 = sum((value != 0) << i for i, value in enumerate(six))
    inner2 = (a.inner != 0) | (a.inner2 != 0) << 1
    column = _density_level(a.column_density)
    two = min(abs(a.left), 3) * 4 + min(abs(a.up), 3)
    if has_base:
        sixth, tenth = a.base_level // 2 * 32 + row // 2, a.base_level
    else:
        sixth, tenth = level // 2 * 32 + near // 2, min(a.place, 127) | a.has_largest << 7
    return [
        0, row, column, level, around6 | inner2 << 6, near, sixth, a.kernel * 64 + column, log4(a.near2 + 16), log4(a.all), tenth,
        (level // 4 * 16 + two) * 4 + inner2, log4(a.smallest * 256) * 8 + (around6 & 7),
    ]  # fmt: skip


def sign_contexts(a: Around, signs: int) -> list[int]:
    """Which counter of each context predicts its sign."""
    left, up, inner = sign_of(a.left), sign_of(a.up), sign_of(a.inner)
    return [
        0, left * 3 + up, inner * 3 + left, signs, up * 9 + sign_of(a.up2) * 3 + left, a.kernel * 3 + inner,
        left * 9 + sign_of(a.left2) * 3 + inner, a.base_sign * 3 + left, inner * 9 + sign_of(a.inner2) * 3 + up,
    ]  # fmt: skip


def tree_contexts(a: Around, *, has_base: bool) -> list[int]:
    """Which counter of each context predicts its magnitude's bits."""
    near, level, column = log4(a.near + 16), log4(a.mean), log4(a.column_mean)
    return [
        0, log4(a.row_mean), column, level, min(a.smallest, 63), near, log4(a.near2 + 16), near // 2 * 32 + level // 2,
        a.kernel * 32 + column // 2, _size_level(a.left) * 16 + _size_level(a.up),
        a.base_level if has_base else a.has_largest * 32 + min(a.place, 31), _size_level(a.inner) * 32 + level // 2,
        log4(a.all),
    ]  # fmt: skip
