"""Files on their way into an archive: measured first, then written between the headers that follow from that."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgepack.bundle.layout import Entry, layout_of
from edgepack.core.errors import BundleError
from edgepack.core.files import stream_atomic

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Bytes inside a file, such as an entry of another bundle."""

    path: Path
    offset: int
    size_bytes: int

    def __str__(self) -> str:
        return str(self.path)


Source = bytes | Path | Region


def measured(name: str, source: Source) -> tuple[Entry, str]:
    """An entry and the SHA-256 of its content. Raises BundleError for a file that is not there."""
    digest, crc32, size_bytes = hashlib.sha256(), 0, 0
    for chunk in _content(source):
        digest.update(chunk)
        crc32 = zlib.crc32(chunk, crc32)
        size_bytes += len(chunk)
    return Entry(name=name, size_bytes=size_bytes, crc32=crc32), digest.hexdigest()


def write_archive(path: Path, entries: Mapping[str, Entry], sources: Mapping[str, Source]) -> None:
    """Write an archive atomically: every entry with the content of its source, laid out in the one way there is."""
    layout = layout_of(list(entries.values()))
    with stream_atomic(path) as file:
        for place in layout.placed:
            file.write(place.header)
            _copy(file, sources[place.entry.name], place.entry)
        file.write(layout.tail)


def chunks(file: BinaryIO, offset: int, size_bytes: int) -> Iterator[bytes]:
    """The bytes of a part of a file, a megabyte at a time; fewer than asked for where the file ends."""
    file.seek(offset)
    while size_bytes and (chunk := file.read(min(size_bytes, _CHUNK_BYTES))):
        size_bytes -= len(chunk)
        yield chunk


def _copy(file: BinaryIO, source: Source, entry: Entry) -> None:
    crc32, size_bytes = 0, 0
    for chunk in _content(source):
        file.write(chunk)
        crc32 = zlib.crc32(chunk, crc32)
        size_bytes += len(chunk)
    if (crc32, size_bytes) != (entry.crc32, entry.size_bytes):
        raise BundleError(f"{source!s}: changed while it was being bundled; run the command again")


def _content(source: Source) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    path = source if isinstance(source, Path) else source.path
    try:
        with path.open("rb") as file:
            offset, size_bytes = (0, -1) if isinstance(source, Path) else (source.offset, source.size_bytes)
            yield from (
                chunks(file, offset, size_bytes) if size_bytes >= 0 else iter(lambda: file.read(_CHUNK_BYTES), b"")
            )
    except FileNotFoundError as exc:
        raise BundleError(f"{source}: this file was to be bundled and does not exist") from exc
