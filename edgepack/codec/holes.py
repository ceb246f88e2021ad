"""Finds what needn't be sent because it follows from the entries: digests in texts, and the manifest's list of files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from edgepack.codec.derived import DEPTH_MAX, Hole, listing
from edgepack.codec.pieces import Piece, Taken

_HEX = re.compile(rb"(?<![0-9a-fA-F])[0-9a-f]{64}(?![0-9a-fA-F])")
_LIST_BEGINS = b'"files": [\n'
_HOLES_MAX = 60_000  # a reader takes 65,536


def holes_in(taken: Taken) -> dict[int, list[Hole]]:
    """By the number of the piece: its holes, in order. Nothing for what is no archive."""
    if not taken.members:
        return {}
    view = memoryview(taken.data)
    digests = [hashlib.sha256(view[m.data_offset : m.data_offset + m.size_bytes]).hexdigest() for m in taken.members]
    numbers = {digest.encode(): number for number, digest in reversed(list(enumerate(digests)))}
    found: dict[int, list[Hole]] = {}
    for index, piece in enumerate(taken.pieces):
        if piece.role == "segment" and not piece.is_tensor:
            holes = list(_in_piece(taken, piece, digests, numbers))
            if holes:
                found[index] = holes
    return _shallow(found) if sum(map(len, found.values())) <= _HOLES_MAX else {}


def _in_piece(taken: Taken, piece: Piece, digests: list[str], numbers: dict[bytes, int]) -> Iterator[Hole]:
    text = taken.bytes_of(piece)
    listed = _listing_in(taken, piece, text, digests) if piece.entry == 0 else None
    if listed is not None:
        yield listed
    for match in _HEX.finditer(text):
        start = piece.offset + match.start()
        if listed is not None and listed.start <= start < listed.start + listed.size_bytes:
            continue
        number = numbers.get(match[0])
        if number is not None and number != piece.entry:
            yield Hole(start, 64, piece.entry, number, 0)


def _listing_in(taken: Taken, piece: Piece, text: bytes, digests: list[str]) -> Hole | None:
    """The manifest's list: every other entry, or every other but the last, the signatures."""
    begin = text.find(_LIST_BEGINS)
    for count in (len(taken.members) - 1, len(taken.members) - 2):
        if begin < 0 or count < 1:
            continue
        members = taken.members[1 : 1 + count]
        expected = listing([m.name for m in members], digests[1 : 1 + count], [m.size_bytes for m in members])
        start = begin + len(_LIST_BEGINS)
        if text[start : start + len(expected) + 1] == expected + b"\n":
            return Hole(piece.offset + start, len(expected), piece.entry, 1, count)
    return None


def _shallow(found: dict[int, list[Hole]]) -> dict[int, list[Hole]]:
    """Without those of entries that a reader would refuse as nested too deeply; sorted by place."""
    targets: dict[int, set[int]] = {}
    for hole in (hole for holes in found.values() for hole in holes):
        targets.setdefault(hole.within, set()).update(range(hole.first, hole.first + max(1, hole.count)))
    depth: dict[int, int] = {}

    def depth_of(entry: int, above: tuple[int, ...]) -> int:
        if entry in above or len(above) > DEPTH_MAX:
            return DEPTH_MAX + 1
        if entry not in depth:
            depth[entry] = 1 + max((depth_of(one, (*above, entry)) for one in targets.get(entry, ())), default=0)
        return depth[entry]

    return {
        index: sorted(holes, key=lambda hole: hole.start)
        for index, holes in found.items()
        if depth_of(holes[0].within, ()) <= DEPTH_MAX
    }
