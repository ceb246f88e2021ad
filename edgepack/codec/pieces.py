"""A file taken into pieces: an archive's headers, and each entry's segments, where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from edgepack.codec.segments import Beside, no_file_beside, segments_of
from edgepack.codec.types import Segment
from edgepack.codec.zip_form import Member, members_of

Role = Literal["header", "segment", "tail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """`segment` from `offset` on in the file. `entry` is its archive entry's number, and `path` its name; −1 and '' outside of one."""

    role: Role
    offset: int
    segment: Segment
    entry: int = -1
    path: str = ""

    @property
    def size_bytes(self) -> int:
        return self.segment.size_bytes

    @property
    def end(self) -> int:
        return self.offset + self.segment.size_bytes

    @property
    def is_tensor(self) -> bool:
        return self.segment.kind != "bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A file and its pieces, which tile it. `members` is empty for what is no bundle's archive."""

    data: bytes
    members: tuple[Member, ...]
    pieces: tuple[Piece, ...]

    def bytes_of(self, piece: Piece) -> bytes:
        return self.data[piece.offset : piece.end]


def take_apart(data: bytes, name: str, beside: Beside = no_file_beside) -> Taken:
    """The pieces of a bundle's archive or of a model file; `name` and `beside` as for `segments_of`. Any bytes can be taken apart."""
    members = members_of(data) or ()
    if not members:
        segments = segments_of(data, name, beside)
        return Taken(data=data, members=(), pieces=tuple(_placed(segments, 0, entry=-1, path="")))
    pieces: list[Piece] = []
    for number, member in enumerate(members):
        path = member.name.decode("latin-1")
        header = Segment(size_bytes=member.data_offset - member.header_offset)
        pieces.append(Piece(role="header", offset=member.header_offset, segment=header, entry=number, path=path))
        content = data[member.data_offset : member.data_offset + member.size_bytes]
        segments = segments_of(content, path, _beside(data, members, path))
        pieces.extend(_placed(segments, member.data_offset, entry=number, path=path))
    end = members[-1].data_offset + members[-1].size_bytes
    pieces.append(Piece(role="tail", offset=end, segment=Segment(size_bytes=len(data) - end)))
    return Taken(data=data, members=members, pieces=tuple(pieces))


def _placed(segments: tuple[Segment, ...], offset: int, *, entry: int, path: str) -> Iterator[Piece]:
    for segment in segments:
        if segment.size_bytes:
            yield Piece(role="segment", offset=offset, segment=segment, entry=entry, path=path)
        offset += segment.size_bytes


def _beside(data: bytes, members: tuple[Member, ...], path: str) -> Callable[[str], bytes | None]:
    """What lies in an entry's own folder of the archive."""

    def find(name: str) -> bytes | None:
        wanted = str(PurePosixPath(path).with_name(name)).encode("latin-1", "replace")
        for member in members:
            if member.name == wanted:
                return data[member.data_offset : member.data_offset + member.size_bytes]
        return None

    return find
