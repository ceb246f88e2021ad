"""Which stretch of the base stands where a new file's piece does: the same tensor, or the bytes around it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from edgepack.codec.pieces import Piece, Taken


def partners(new: Taken, old: Taken) -> dict[int, Piece]:
    """By the number of the new file's piece: its partner in the base; nothing for pieces that have none.

    Entries are matched by their names, then by their file names alone (a variant's folder may be new). Tensors are matched in order where
    the entry is built alike, else by name and shape, then by shape. Bytes belong to those behind the partner of the tensor before them.
    """
    older = _by_entry(old)
    found: dict[int, Piece] = {}
    for path, numbers in _numbers_by_entry(new).items():
        pieces = [new.pieces[number] for number in numbers]
        base = older.get(path) or _of_same_file_name(path, older)
        found.update(zip_known(numbers, _matched(pieces, base)))
    return found


def zip_known(numbers: Sequence[int], partners: Iterable[Piece | None]) -> dict[int, Piece]:
    """Number to partner, for those that have one."""
    return {number: one for number, one in zip(numbers, partners, strict=True) if one is not None}


def _by_entry(taken: Taken) -> dict[str, list[Piece]]:
    found: dict[str, list[Piece]] = defaultdict(list)
    for piece in taken.pieces:
        if piece.role == "segment":
            found[piece.path].append(piece)
    return found


def _numbers_by_entry(taken: Taken) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for number, piece in enumerate(taken.pieces):
        if piece.role == "segment":
            found[piece.path].append(number)
    return found


def _of_same_file_name(path: str, older: dict[str, list[Piece]]) -> list[Piece]:
    """The only entry of the base with this file name; one lone file is the partner of a model in a bundle, too."""
    alike = [other for other in older if PurePosixPath(other).name == PurePosixPath(path).name]
    if len(alike) == 1:
        return older[alike[0]]
    return older.get("", []) if PurePosixPath(path).parent.name == "model" else []


def _form(piece: Piece) -> tuple[Any, ...]:
    return (piece.segment.kind, piece.segment.shape)


def _matched(pieces: Sequence[Piece], base: Sequence[Piece]) -> list[Piece | None]:
    if [_form(one) for one in pieces] == [_form(one) for one in base]:
        return list(base)
    tensors = _matched_tensors(pieces, [one for one in base if one.is_tensor])
    following: dict[int | None, Piece] = {}
    before: int | None = None
    for one in base:
        if not one.is_tensor:
            following.setdefault(before, one)
        before = one.offset if one.is_tensor else before
    found: list[Piece | None] = []
    last: int | None = None
    for number, piece in enumerate(pieces):
        if piece.is_tensor:
            partner = tensors.get(number)
            last = partner.offset if partner is not None else last
        else:
            partner = following.pop(last, None)
        found.append(partner)
    return found


def _matched_tensors(pieces: Sequence[Piece], base: Sequence[Piece]) -> dict[int, Piece]:
    found: dict[int, Piece] = {}
    used: set[int] = set()
    for key in (lambda one: (one.segment.name, *_form(one)), _form):
        waiting: dict[Any, list[Piece]] = defaultdict(list)
        for one in reversed(base):
            if one.offset not in used:
                waiting[key(one)].append(one)
        for number, piece in enumerate(pieces):
            if piece.is_tensor and number not in found and waiting[key(piece)]:
                found[number] = waiting[key(piece)].pop()
                used.add(found[number].offset)
    return found
