"""What follows from the entries' bytes and is therefore not sent: digests in texts, the manifest's list of files, ZIP headers."""

from __future__ import annotations

import hashlib
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.codec.zip_form import Member, local_header, tail
from edgepack.core.errors import BundleError

DEPTH_MAX = 8
_RECORD_BYTES_MIN = 100  # of a listing, for one file
_DAMAGED = "the file is damaged or was changed; get it again"


@dataclass(frozen=True, slots=True)
class Hole:
    """`size_bytes` from `start` in entry `within`: the digest of entry `first`, or the listing of `count` entries from it."""

    start: int
    size_bytes: int
    within: int
    first: int
    count: int


def listing(names: Sequence[bytes], digests: Sequence[str], sizes: Sequence[int]) -> bytes:
    """A manifest's `files`, as its JSON spells them between '"files": [' and '],': sorted keys, indented by two."""
    return b",\n".join(
        b'    {\n      "path": "%b",\n      "sha256": "%b",\n      "size_bytes": %d\n    }'
        % (name, digest.encode(), size)
        for name, digest, size in zip(names, digests, sizes, strict=True)
    )


def fill_in(out: bytearray, members: Sequence[Member], holes: Sequence[Hole], *, tail_at: int | None) -> None:
    """Write the digests and listings, innermost first, then the archive's headers. Raises BundleError where that can't be."""
    if (tail_at is None) != (not members):
        raise BundleError(f"its archive has no end; {_DAMAGED}")
    _Filling(out, members, holes, {}, set()).all()
    if tail_at is None:
        return
    view = memoryview(out)
    crc32s = [zlib.crc32(view[one.data_offset : one.data_offset + one.size_bytes]) for one in members]
    view.release()
    for one, crc32 in zip(members, crc32s, strict=True):
        out[one.header_offset : one.data_offset] = local_header(one, crc32)
    out[tail_at:] = _fitting(tail(members, crc32s, tail_at), len(out) - tail_at)


@dataclass(frozen=True, slots=True)
class _Filling:
    out: bytearray
    members: Sequence[Member]
    holes: Sequence[Hole]
    digests: dict[int, str]
    open_entries: set[int]

    def all(self) -> None:
        for number in sorted({hole.within for hole in self.holes}):
            self.digest(number)

    def digest(self, number: int) -> str:
        """The digest of an entry whose own holes are filled first."""
        if number in self.digests:
            return self.digests[number]
        if number >= len(self.members) or number in self.open_entries or len(self.open_entries) == DEPTH_MAX:
            raise BundleError(f"a digest in it is of an entry that can't be; {_DAMAGED}")
        self.open_entries.add(number)
        first = bisect_left(self.holes, number, key=lambda hole: hole.within)
        for hole in self.holes[first:]:
            if hole.within != number:
                break
            self.out[hole.start : hole.start + hole.size_bytes] = _fitting(self._text(hole), hole.size_bytes)
        self.open_entries.remove(number)
        one = self.members[number]
        with memoryview(self.out) as view:
            self.digests[number] = hashlib.sha256(view[one.data_offset : one.data_offset + one.size_bytes]).hexdigest()
        return self.digests[number]

    def _text(self, hole: Hole) -> bytes:
        if hole.count == 0:
            return self.digest(hole.first).encode()
        numbers = range(hole.first, hole.first + hole.count)
        if numbers.stop > len(self.members) or hole.size_bytes < _RECORD_BYTES_MIN * hole.count:
            raise BundleError(f"it lists entries that are not there; {_DAMAGED}")
        listed = [self.members[number] for number in numbers]
        digests = [self.digest(number) for number in numbers]
        return listing([one.name for one in listed], digests, [one.size_bytes for one in listed])


def _fitting(text: bytes, size_bytes: int) -> bytes:
    if len(text) != size_bytes:
        raise BundleError(f"what is derived in it has another length than there is room for; {_DAMAGED}")
    return text
