"""A strict reader of FlatBuffers, for the few fields that are wanted. flatbuffers.dev/internals: offsets are relative, little endian."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_U16, _I32, _U32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")


class Damaged(ValueError):
    """An offset or a length that doesn't lie in the file."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table at `position`. Every reading raises Damaged where it would leave the file."""

    data: bytes
    position: int

    def field(self, number: int) -> int | None:
        """Where a field's inline value lies; None where it is left out."""
        vtable = self.position - _number(_I32, self.data, self.position)
        size_bytes = _number(_U16, self.data, vtable)
        slot = 4 + 2 * number
        if slot + 2 > size_bytes:
            return None
        offset = _number(_U16, self.data, vtable + slot)
        return self.position + offset if offset else None

    def scalar(self, number: int, layout: struct.Struct, *, default: int = 0) -> int:
        place = self.field(number)
        return default if place is None else _number(layout, self.data, place)

    def table(self, number: int) -> Table | None:
        place = self.field(number)
        return None if place is None else Table(self.data, place + _number(_U32, self.data, place))

    def vector(self, number: int, *, element_bytes: int) -> tuple[int, int]:
        """Where a vector's elements begin, and how many there are; (0, 0) where it is left out."""
        place = self.field(number)
        if place is None:
            return 0, 0
        start = place + _number(_U32, self.data, place)
        count = _number(_U32, self.data, start)
        if start + 4 + count * element_bytes > len(self.data):
            raise Damaged
        return start + 4, count

    def tables(self, number: int) -> list[Table]:
        start, count = self.vector(number, element_bytes=4)
        places = range(start, start + 4 * count, 4)
        return [Table(self.data, place + _number(_U32, self.data, place)) for place in places]


def root(data: bytes) -> Table:
    """The outermost table."""
    return Table(data, _number(_U32, data, 0))


def _number(layout: struct.Struct, data: bytes, place: int) -> int:
    if place < 0 or place + layout.size > len(data):
        raise Damaged
    return int(layout.unpack_from(data, place)[0])
