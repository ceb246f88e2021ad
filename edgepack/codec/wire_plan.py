"""What a file's wire form will be made of, before anything is coded: operations, and the stretches that are to be coded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edgepack.codec.delta import partners
from edgepack.codec.derived import Hole
from edgepack.codec.holes import holes_in
from edgepack.codec.pieces import Piece, Taken
from edgepack.codec.same_tensors import KnownTensors
from edgepack.codec.types import Kind
from edgepack.codec.wire_ops import Copy, Digest, Entry, Fill, FromBase, Listing, Operation, Product, Seek, Tail

_FILLED_BYTES_MIN = 256  # a shorter run costs less in the stream around it
_RUN_BYTES_MIN = 32  # of bytes equal to the base's; below, the stream's own matches are cheaper
_TENSOR_BYTES_MIN = 16  # a smaller one stays with the bytes around it
# A smaller tensor is coded together with its like, so that a coder needn't learn anew for each.
_ALONE_BYTES_MIN: dict[Kind, int] = {"i8": 512, "u8": 512, "i4": 512, "u4": 512}
_ALONE_BYTES_MIN_ELSE = 1 << 16
_ALONE_MAX = 20_000  # a reader takes 32,768 tensors and chunks
_STRETCH_BYTES_MAX = 1 << 20
_BASE_STRETCH_BYTES_MAX = 4 << 20
_REPEATED = re.compile(rb"\x00{%d,}|\xff{%d,}" % (_FILLED_BYTES_MIN, _FILLED_BYTES_MIN))  # any byte would take long


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes that a group's chunk will hold; `base_start`, `base_bytes`: those of the base in their place, 0 bytes where there are none."""

    group: tuple[Kind, str]
    start: int
    size_bytes: int
    base_start: int
    base_bytes: int
    name: bytes = b""  # an entry's name, which stands for itself; else it is the file's bytes from `start`


@dataclass(frozen=True, slots=True)
class Alone:
    """A tensor that is coded on its own, with the base's from `base_start` as context where that isn't None."""

    piece: Piece
    base_start: int | None


Step = Operation | Stretch | Alone
BYTES_GROUP: tuple[Kind, str] = ("bytes", "")


@dataclass(slots=True)
class Plan:
    """Steps in output order. `position` and `shift` are those that a reader has there."""

    new: Taken
    old: Taken | None
    known: KnownTensors
    steps: list[Step] = field(default_factory=list)
    position: int = 0
    shift: int = 0
    alone: int = 0


def plan_of(new: Taken, old: Taken | None) -> Plan:
    """The plan for a file; `old` is the base of a delta."""
    plan = Plan(new=new, old=old, known=KnownTensors(new.data))
    holes = holes_in(new)
    pairs = partners(new, old) if old is not None else {}
    for number, piece in enumerate(new.pieces):
        if piece.role == "header":
            name = new.members[piece.entry].name
            plan.steps.append(Stretch(BYTES_GROUP, 0, len(name), 0, 0, name))
            _append(plan, Entry(len(name)), piece.size_bytes)
        elif piece.role == "tail":
            _append(plan, Tail(), piece.size_bytes)
        elif piece.is_tensor and piece.size_bytes >= _TENSOR_BYTES_MIN:
            _plan_tensor(plan, piece, pairs.get(number))
        else:
            _plan_bytes(plan, piece, pairs.get(number), holes.get(number, []))
    return plan


def _append(plan: Plan, step: Step, size_bytes: int) -> None:
    plan.steps.append(step)
    plan.position += size_bytes


def _seek(plan: Plan, base_start: int) -> None:
    """The base is read at `base_start` from here on."""
    by = base_start - plan.position - plan.shift
    if by:
        plan.steps.append(Seek(by))
        plan.shift += by


def _from_base(plan: Plan, base_start: int, size_bytes: int) -> None:
    last = plan.steps[-1] if plan.steps else None
    if isinstance(last, FromBase) and plan.position + plan.shift == base_start:
        plan.steps[-1] = FromBase(last.size_bytes + size_bytes)
        plan.position += size_bytes
        return
    _seek(plan, base_start)
    _append(plan, FromBase(size_bytes), size_bytes)


def _plan_tensor(plan: Plan, piece: Piece, partner: Piece | None) -> None:
    if partner is not None and plan.old is not None and plan.old.bytes_of(partner) == plan.new.bytes_of(piece):
        _from_base(plan, partner.offset, piece.size_bytes)
    elif (byte := _one_byte(plan.new.data, piece)) is not None:
        _append(plan, Fill(byte, piece.size_bytes), piece.size_bytes)
    elif (derived := plan.known.copy_of(piece) or plan.known.product_of(piece)) is not None:
        _append(plan, derived, piece.size_bytes)
    elif piece.size_bytes < _alone_from(plan, piece):
        role = "scales" if piece.segment.name.endswith("/scale") else ""
        on_base = "" if partner is None else " over base"
        _stretch(plan, (piece.segment.kind, role + on_base), piece.offset, piece.size_bytes, partner)
    else:
        plan.alone += 1
        if partner is not None:
            _seek(plan, partner.offset)
        _append(plan, Alone(piece, partner.offset if partner is not None else None), piece.size_bytes)
    plan.known.add(piece)


def _alone_from(plan: Plan, piece: Piece) -> int:
    if plan.alone == _ALONE_MAX and piece.size_bytes <= _STRETCH_BYTES_MAX // 16:
        return piece.size_bytes + 1
    return _ALONE_BYTES_MIN.get(piece.segment.kind, _ALONE_BYTES_MIN_ELSE)


def _one_byte(data: bytes, piece: Piece) -> int | None:
    """The byte that a tensor consists of, such as zero points of 0."""
    first = data[piece.offset]
    return first if data.count(first, piece.offset, piece.end) == piece.size_bytes else None


def _stretch(plan: Plan, group: tuple[Kind, str], start: int, size_bytes: int, partner: Piece | None) -> None:
    base_start, base_bytes = (partner.offset, partner.size_bytes) if partner is not None else (0, 0)
    _plan_stretch(plan, group, start, size_bytes, base_start, base_bytes)


def _plan_stretch(
    plan: Plan, group: tuple[Kind, str], start: int, size_bytes: int, base_start: int, base_bytes: int
) -> None:
    while size_bytes:
        part = min(size_bytes, _STRETCH_BYTES_MAX)
        base_part = min(base_bytes, _BASE_STRETCH_BYTES_MAX if part == size_bytes else part)
        if base_part:
            _seek(plan, base_start)
        if plan.old is not None:
            plan.shift += base_part - part
        _append(plan, Stretch(group, start, part, base_start, base_part), part)
        start, size_bytes = start + part, size_bytes - part
        base_start, base_bytes = base_start + base_part, base_bytes - base_part


def _plan_bytes(plan: Plan, piece: Piece, partner: Piece | None, holes: list[Hole]) -> None:
    start = piece.offset
    for hole in holes:
        _plan_plain(plan, start, hole.start, piece, partner)
        made = Listing(hole.first, hole.count, hole.size_bytes) if hole.count else Digest(hole.first)
        _append(plan, made, hole.size_bytes)
        start = hole.start + hole.size_bytes
    _plan_plain(plan, start, piece.end, piece, partner)


def _plan_plain(plan: Plan, start: int, end: int, piece: Piece, partner: Piece | None) -> None:
    """Bytes without holes: what the base has in the same place is taken from there, runs of one byte are filled, the rest is coded."""
    if start == end:
        return
    if partner is None or plan.old is None:
        _plan_filled(plan, start, end)
        return
    for first, last, base_first, base_last, is_equal in _against_base(plan, start, end, piece, partner):
        if is_equal:
            _from_base(plan, base_first, last - first)
        elif last > first:
            _plan_stretch(plan, BYTES_GROUP, first, last - first, base_first, base_last - base_first)


def _plan_filled(plan: Plan, start: int, end: int) -> None:
    for match in _REPEATED.finditer(plan.new.data, start, end):
        if match.start() > start:
            _plan_stretch(plan, BYTES_GROUP, start, match.start() - start, 0, 0)
        size_bytes = match.end() - match.start()
        _append(plan, Fill(plan.new.data[match.start()], size_bytes), size_bytes)
        start = match.end()
    if start < end:
        _plan_stretch(plan, BYTES_GROUP, start, end - start, 0, 0)


def _against_base(
    plan: Plan, start: int, end: int, piece: Piece, partner: Piece
) -> Iterator[tuple[int, int, int, int, bool]]:
    """Bounds in the new file and in the base, and whether the bytes are equal. A piece with holes is compared as far as it goes."""
    assert plan.old is not None
    new = np.frombuffer(plan.new.data, np.uint8)[start:end]
    base_start = partner.offset + start - piece.offset
    if piece.size_bytes == partner.size_bytes:
        old = np.frombuffer(plan.old.data, np.uint8)[base_start : base_start + len(new)]
        for first, last, is_equal in _runs(new == old):
            yield start + first, start + last, base_start + first, base_start + last, is_equal
        return
    base_start = max(partner.offset, min(base_start, partner.end))
    old = np.frombuffer(plan.old.data, np.uint8)[base_start : partner.end]
    yield from _by_ends(new, old, start, base_start)


def _runs(equal: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Iterator[tuple[int, int, bool]]:
    """Stretches of equal bytes of at least the shortest length that is worth it, and what lies between them."""
    if equal.all():  # however short: it goes on with what lies before and behind
        yield 0, len(equal), True
        return
    borders = np.flatnonzero(np.diff(np.concatenate([[False], equal, [False]]).astype(np.int8)))
    position = 0
    for first, last in zip(borders[::2].tolist(), borders[1::2].tolist(), strict=True):
        if last - first < _RUN_BYTES_MIN:
            continue
        if first > position:
            yield position, first, False
        yield first, last, True
        position = last
    if position < len(equal):
        yield position, len(equal), False


def _by_ends(
    new: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    old: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    start: int,
    base_start: int,
) -> Iterator[tuple[int, int, int, int, bool]]:
    """The common beginning, the differing middle, the common end."""
    shorter = min(len(new), len(old))
    differing = np.flatnonzero(new[:shorter] != old[:shorter])
    head = int(differing[0]) if len(differing) else shorter
    rest = shorter - head
    differing = np.flatnonzero(new[len(new) - rest :][::-1] != old[len(old) - rest :][::-1])
    foot = int(differing[0]) if len(differing) else rest
    head, foot = (size if size >= _RUN_BYTES_MIN else 0 for size in (head, foot))
    new_end, old_end = start + len(new), base_start + len(old)
    if head:
        yield start, start + head, base_start, base_start + head, True
    yield start + head, new_end - foot, base_start + head, old_end - foot, False
    if foot:
        yield new_end - foot, new_end, old_end - foot, old_end, True


__all__ = ["BYTES_GROUP", "Alone", "Copy", "Plan", "Product", "Step", "Stretch", "plan_of"]
