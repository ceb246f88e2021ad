"""The one ZIP encoding of a bundle (docs/bundle-format.md), for the wire form: headers follow from names, sizes and CRC-32s."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

ENTRIES_MAX = 0xFFFE
NAME_BYTES_MAX = 200
ARCHIVE_BYTES_MAX = 0xFFFF_FFFE
_ALIGNMENT_BYTES = 64
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_PADDING = struct.Struct("<3H")
_FIXED = (10, 0, 0, 0, 33)  # version needed, flags, stored, 00:00, 1980-01-01
_MADE_BY = (3 << 8) | 20
_PERMISSIONS = 0o100644 << 16


@dataclass(frozen=True, slots=True)
class Member:
    """An entry where it lies: its header from `header_offset`, its `size_bytes` data from `data_offset`."""

    name: bytes
    header_offset: int
    data_offset: int
    size_bytes: int


def header_bytes(name_bytes: int, offset: int) -> int:
    """Length of a local header at `offset`: padded so that the data behind it begin at a multiple of 64."""
    bare = offset + _LOCAL.size + name_bytes
    padding = -bare % _ALIGNMENT_BYTES
    if padding < _PADDING.size:
        padding += _ALIGNMENT_BYTES
    return bare + padding - offset


def local_header(member: Member, crc32: int) -> bytes:
    """The bytes before an entry's data."""
    padding = member.data_offset - member.header_offset - _LOCAL.size - len(member.name)
    extra = _PADDING.pack(0xD935, padding - 4, _ALIGNMENT_BYTES).ljust(padding, b"\0")
    sizes = (crc32, member.size_bytes, member.size_bytes, len(member.name), padding)
    return _LOCAL.pack(b"PK\x03\x04", *_FIXED, *sizes) + member.name + extra


def tail_bytes(count: int, names_bytes: int) -> int:
    """Length of the central directory of `count` entries, whose names have `names_bytes` together, and the end record."""
    return count * _CENTRAL.size + names_bytes + _END.size


def tail(members: Sequence[Member], crc32s: Sequence[int], offset: int) -> bytes:
    """Central directory, which begins at `offset`, and end record."""
    directory = b"".join(_record(one, crc32) for one, crc32 in zip(members, crc32s, strict=True))
    count = len(members)
    return directory + _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), offset, 0)


def members_of(data: bytes) -> tuple[Member, ...] | None:
    """The entries of an archive in exactly this encoding; None for anything else."""
    if len(data) < _END.size or not data.startswith(b"PK\x03\x04") or len(data) > ARCHIVE_BYTES_MAX:
        return None
    mark, *_, size_bytes, start, _comment = _END.unpack_from(data, len(data) - _END.size)
    if mark != b"PK\x05\x06" or start + size_bytes + _END.size != len(data):
        return None
    members: list[Member] = []
    position = start
    while position + _CENTRAL.size <= len(data) - _END.size and len(members) < ENTRIES_MAX:
        fields = _CENTRAL.unpack_from(data, position)
        name = bytes(data[position + _CENTRAL.size : position + _CENTRAL.size + fields[10]])
        offset = fields[16]
        first = offset + header_bytes(len(name), offset)
        members.append(Member(name, offset, first, fields[9]))
        position += _CENTRAL.size + sum(fields[10:13])
    return tuple(members) if _are_these(data, members, start) else None


def _are_these(data: bytes, members: Sequence[Member], start: int) -> bool:
    """Whether these members, laid out as they must be, give the archive's own bytes."""
    offset, crc32s = 0, []
    for one in members:
        if one.header_offset != offset or one.data_offset + one.size_bytes > start or len(one.name) > NAME_BYTES_MAX:
            return False
        crc32s.append(zlib.crc32(memoryview(data)[one.data_offset : one.data_offset + one.size_bytes]))
        if data[offset : one.data_offset] != local_header(one, crc32s[-1]):
            return False
        offset = one.data_offset + one.size_bytes
    return offset == start and data[start:] == tail(members, crc32s, start)


def _record(member: Member, crc32: int) -> bytes:
    common = (*_FIXED, crc32, member.size_bytes, member.size_bytes)
    rest = (len(member.name), 0, 0, 0, 0, _PERMISSIONS, member.header_offset)
    return _CENTRAL.pack(b"PK\x01\x02", _MADE_BY, *common, *rest) + member.name
