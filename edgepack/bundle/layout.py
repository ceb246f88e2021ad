"""The one ZIP encoding of a bundle: equal entries give equal bytes, and any other bytes are not a bundle.

Field names and order: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory) and 4.3.16
(end record). Padding: extra field 0xD935 as Android's apksigner writes it. docs/bundle-format.md spells the encoding out.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.core.errors import BundleError

MANIFEST_NAME = "manifest.json"
SIGNATURES_NAME = "signatures.json"
ALIGNMENT_BYTES = 64  # one cache line; TFLite aligns the buffers inside its file to 16
END_BYTES = 22
ARCHIVE_BYTES_MAX = 0xFFFF_FFFE  # one less is the ZIP64 mark; a bundle never is ZIP64
ENTRIES_MAX = 4096  # what a bundle needs many times over; with the limits on names it bounds a reader's work and memory
NAME_LENGTH_MAX = 200
DEPTH_MAX = 16  # folders inside each other

_SEGMENT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?\Z")
_WINDOWS_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?\Z", re.IGNORECASE)
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_PADDING = struct.Struct("<3H")
_PADDING_ID = 0xD935
_VERSION_NEEDED = 10
_MADE_BY = (3 << 8) | 20  # Unix, so that the permissions below are read as such
_DATE = (0 << 9) | (1 << 5) | 1  # 1980-01-01, the first day that ZIP can say
_PERMISSIONS = 0o100644 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of the archive: its name, its size and the CRC-32 of its bytes."""

    name: str
    size_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An entry with its place: `header` lies at `header_offset` and the data follow it at `data_offset`, a multiple of 64."""

    entry: Entry
    header_offset: int
    header: bytes

    @property
    def data_offset(self) -> int:
        return self.header_offset + len(self.header)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLayout:
    """Where everything lies. `tail` is the central directory and the end record, from `tail_offset` to the end."""

    placed: tuple[Placed, ...]
    tail_offset: int
    tail: bytes

    @property
    def size_bytes(self) -> int:
        return self.tail_offset + len(self.tail)


def archive_order(name: str) -> tuple[int, str]:
    """Sort key of entry names: the manifest first, the signatures last, the others by byte value."""
    return ({MANIFEST_NAME: 0, SIGNATURES_NAME: 2}.get(name, 1), name)


def check_names(names: Sequence[str]) -> None:
    """Raise BundleError unless every name is safe to extract on Linux, macOS and Windows and none clashes with another."""
    seen: dict[str, str] = {}
    for name in names:
        segments = name.split("/")
        allowed = all(_SEGMENT.match(segment) and not _WINDOWS_DEVICES.match(segment) for segment in segments)
        if len(name) > NAME_LENGTH_MAX or len(segments) > DEPTH_MAX or not allowed:
            raise BundleError(
                f"entry name {name[:NAME_LENGTH_MAX]!r} is not allowed: relative, '/' between folders, letters, digits, '.', '_' and '-' only, "
                f"at most {NAME_LENGTH_MAX} characters in {DEPTH_MAX} segments"
            )
        if name.lower() in seen:
            raise BundleError(f"entries '{seen[name.lower()]}' and '{name}' have the same name")
        seen[name.lower()] = name
    for name in names:
        parts = name.lower().split("/")
        for depth in range(1, len(parts)):
            if (folder := "/".join(parts[:depth])) in seen:
                raise BundleError(f"entry '{seen[folder]}' is a file and also the folder of '{name}'")


def layout_of(entries: Sequence[Entry]) -> ArchiveLayout:
    """The bytes around the data of some entries, in archive order. Raises BundleError for bad names or over 4 GiB."""
    if len(entries) > ENTRIES_MAX:
        raise BundleError(f"{len(entries)} files are too many for one bundle (at most {ENTRIES_MAX})")
    check_names([entry.name for entry in entries])
    offset = 0
    placed = []
    for entry in sorted(entries, key=lambda entry: archive_order(entry.name)):
        place = Placed(entry=entry, header_offset=offset, header=_local_header(entry, offset))
        offset = place.data_offset + entry.size_bytes
        if offset > ARCHIVE_BYTES_MAX:
            raise BundleError(f"the files up to '{entry.name}' have over 4 GiB, more than a bundle can hold")
        placed.append(place)
    directory = b"".join(_directory_record(place) for place in placed)
    count = len(placed)
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), offset, 0)
    return ArchiveLayout(placed=tuple(placed), tail_offset=offset, tail=directory + end)


def directory_place(end: bytes) -> tuple[int, int]:
    """Offset and size of the central directory, from the last 22 bytes of a file. Raises BundleError if they are no end record."""
    if len(end) != END_BYTES or not end.startswith(b"PK\x05\x06"):
        raise BundleError("not a bundle, or cut off: it doesn't end as a bundle does")
    _, _, _, _, count, size, offset, _comment = _END.unpack(end)
    if count > ENTRIES_MAX or size > count * (_CENTRAL.size + NAME_LENGTH_MAX):
        raise BundleError(f"its table of contents has {count} entries in {size:,} bytes, more than a bundle can have")
    return offset, size


def entries_in(directory: bytes) -> tuple[Entry, ...]:
    """The entries that a central directory lists, unchecked: compare `layout_of` of them with the file.

    Raises BundleError where it can't be read at all.
    """
    entries = []
    position = 0
    while position < len(directory):
        try:
            fields = _CENTRAL.unpack_from(directory, position)
            name_length, extra_length, comment_length = fields[10:13]
            start = position + _CENTRAL.size
            name = directory[start : start + name_length].decode("ascii")
        except (struct.error, UnicodeDecodeError) as exc:
            raise BundleError("its table of contents is damaged") from exc
        entries.append(Entry(name=name, crc32=fields[7], size_bytes=fields[9]))
        position = start + name_length + extra_length + comment_length
    return tuple(entries)


def _local_header(entry: Entry, offset: int) -> bytes:
    bare = offset + _LOCAL.size + len(entry.name)
    padding = -bare % ALIGNMENT_BYTES
    if padding < _PADDING.size:
        padding += ALIGNMENT_BYTES
    extra = _PADDING.pack(_PADDING_ID, padding - 4, ALIGNMENT_BYTES).ljust(padding, b"\0")
    fixed = (_VERSION_NEEDED, 0, 0, 0, _DATE, entry.crc32, entry.size_bytes, entry.size_bytes)
    return _LOCAL.pack(b"PK\x03\x04", *fixed, len(entry.name), padding) + entry.name.encode("ascii") + extra


def _directory_record(place: Placed) -> bytes:
    entry = place.entry
    common = (_VERSION_NEEDED, 0, 0, 0, _DATE, entry.crc32, entry.size_bytes, entry.size_bytes)
    rest = (len(entry.name), 0, 0, 0, 0, _PERMISSIONS, place.header_offset)
    return _CENTRAL.pack(b"PK\x01\x02", _MADE_BY, *common, *rest) + entry.name.encode("ascii")
