"""What is coded, and what coding it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal["bytes", "i8", "u8", "i4", "u4", "i16", "i32", "f16", "f32"]
Profile = Literal["fast", "small"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PROFILES: Final[tuple[Profile, ...]] = get_args(Profile)
# Bits of one element; i4 and u4 lie two in a byte, the low nibble first.
BITS: Final[dict[Kind, int]] = {
    "bytes": 8,
    "i8": 8,
    "u8": 8,
    "i4": 4,
    "u4": 4,
    "i16": 16,
    "i32": 32,
    "f16": 16,
    "f32": 32,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of a file: one tensor's data as they are stored (row major, little endian), or bytes of any kind.

    `shape` is () for bytes. `channel_axis` is the axis of `shape` along which the values' spread varies most
    (the output channels of a weight), None where nothing is known. `name` is told in errors, never coded.
    """

    size_bytes: int
    kind: Kind = "bytes"
    shape: tuple[int, ...] = ()
    channel_axis: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A segment's coded form: the coder's number (docs/codec.md), its parameters (a few bytes) and the payload."""

    coder: int
    params: bytes
    payload: bytes
