"""Archives that an attacker would write: any entries, any fields, laid out as well or as badly as wished."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgepack.bundle import read_bundle
from edgepack.bundle.layout import Entry, layout_of

ALIGNMENT = 64


def rebuilt(contents: dict[str, bytes]) -> bytes:
    """A perfectly laid out archive of any content, as someone who knows the format would forge it."""
    entries = [Entry(name=name, size_bytes=len(data), crc32=zlib.crc32(data)) for name, data in contents.items()]
    layout = layout_of(entries)
    return b"".join(place.header + contents[place.entry.name] for place in layout.placed) + layout.tail


def contents_of(path: Path) -> dict[str, bytes]:
    bundle = read_bundle(path)
    return {name: bundle.read(name) for name in bundle.names}


@dataclass
class Forged:
    """One entry; what is not said is as a bundle has it."""

    name: bytes
    data: bytes = b""
    size: int | None = None
    crc32: int | None = None
    method: int = 0
    flags: int = 0
    attributes: int = 0o100644 << 16
    offset: int | None = None
    comment: bytes = b""
    central_extra: bytes = b""
    local_name: bytes | None = None

    def fields(self) -> tuple[int, ...]:
        crc32 = zlib.crc32(self.data) if self.crc32 is None else self.crc32
        size = len(self.data) if self.size is None else self.size
        return (10, self.flags, self.method, 0, 33, crc32, size & 0xFFFFFFFF, size & 0xFFFFFFFF)


@dataclass
class Archive:
    """The bytes of an archive in the order given, each with its local header, then the directory and the end record."""

    entries: Sequence[Forged]
    count: int | None = None
    directory_size: int | None = None
    directory_offset: int | None = None
    comment: bytes = b""
    offsets: list[int] = field(default_factory=list)

    def __bytes__(self) -> bytes:
        body, directory = b"", b""
        for entry in self.entries:
            own = len(body)
            name = entry.name if entry.local_name is None else entry.local_name
            bare = own + 30 + len(name)
            padding = -bare % ALIGNMENT
            padding += ALIGNMENT if padding < 6 else 0
            extra = struct.pack("<3H", 0xD935, padding - 4, ALIGNMENT).ljust(padding, b"\0")
            body += (
                struct.pack("<4s5H3I2H", b"PK\x03\x04", *entry.fields(), len(name), padding) + name + extra + entry.data
            )
            offset = own if entry.offset is None else entry.offset
            rest = (len(entry.name), len(entry.central_extra), len(entry.comment), 0, 0, entry.attributes, offset)
            directory += struct.pack("<4s6H3I5H2I", b"PK\x01\x02", (3 << 8) | 20, *entry.fields(), *rest)
            directory += entry.name + entry.central_extra + entry.comment
        count = len(self.entries) if self.count is None else self.count
        size = len(directory) if self.directory_size is None else self.directory_size
        where = len(body) if self.directory_offset is None else self.directory_offset
        end = struct.pack(
            "<4s4H2IH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, size, where, len(self.comment)
        )
        return body + directory + end + self.comment
