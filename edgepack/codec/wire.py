"""The wire form of a bundle or a model file: `.edgepackz`; of an update: `.edgepackd`. docs/wire-format.md is the specification.

::

    "EPKZ" version flags | size and SHA-256 of the output | (a delta's) size and SHA-256 of the base | table, coded | payloads
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgepack.codec.coders import decode
from edgepack.codec.types import Coded, Segment
from edgepack.codec.varints import Cursor, unsigned
from edgepack.codec.wire_ops import PARAMS_BYTES_MAX
from edgepack.core.errors import BundleError

MAGIC = b"EPKZ"
VERSION = 1
IS_ARCHIVE, IS_DELTA = 1, 2
WIRE_SUFFIX, DELTA_SUFFIX = ".edgepackz", ".edgepackd"
TABLE_BYTES_MAX = 2 << 20
# A wire file that claims more than this many bytes, and more than so many a byte of its own, is refused unread.
FREE_BYTES, EXPANSION_MAX = 64 << 20, 1000
OUTPUT_BYTES_MAX = 1 << 40
_DAMAGED = "the file is damaged or was changed; get it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class WireHeader:
    """What a wire file says about what it becomes. `base_sha256` is set, and only then, for a delta."""

    is_archive: bool
    output_bytes: int
    output_sha256: bytes
    base_bytes: int = 0
    base_sha256: bytes | None = None

    @property
    def what(self) -> str:
        """In words: 'bundle', 'single file', and for a delta 'update of a bundle' or 'update of a single file'."""
        kind = "bundle" if self.is_archive else "single file"
        return kind if self.base_sha256 is None else f"update of a {kind}"

    def to_bytes(self) -> bytes:
        flags = (IS_ARCHIVE if self.is_archive else 0) | (IS_DELTA if self.base_sha256 is not None else 0)
        head = MAGIC + bytes([VERSION, flags]) + unsigned(self.output_bytes) + self.output_sha256
        return head if self.base_sha256 is None else head + unsigned(self.base_bytes) + self.base_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A wire file taken apart: the header, the table of operations decoded, and where the payloads begin."""

    header: WireHeader
    table: bytes
    payloads: memoryview


def is_wire(path: Path) -> bool:
    """Whether a file begins as a wire file or a delta does. False for one that can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_header(wire: bytes) -> WireHeader:
    """The header of a wire file. Raises BundleError where it is none, is newer, or claims what can't be."""
    return _read_header(Cursor(data=wire), len(wire))


def open_wire(wire: bytes, *, decode: Callable[..., bytes] = decode) -> Wire:
    """A wire file with its table decoded. Raises BundleError where it is none or is damaged."""
    cursor = Cursor(data=wire)
    header = _read_header(cursor, len(wire))
    size_bytes = cursor.positive()
    if size_bytes > TABLE_BYTES_MAX:
        raise BundleError(f"its table has {size_bytes} bytes, more than the {TABLE_BYTES_MAX} allowed; {_DAMAGED}")
    coder, params, payload_bytes = cursor.unsigned(), cursor.sized(PARAMS_BYTES_MAX), cursor.unsigned()
    coded = Coded(coder=coder, params=params, payload=cursor.take(payload_bytes))
    table = decode(coded, Segment(size_bytes=size_bytes, name="the table"))
    return Wire(header=header, table=table, payloads=memoryview(wire)[cursor.position :])


def write_wire(header: WireHeader, table: bytes, coded: Coded, payloads: list[bytes]) -> bytes:
    """A wire file: `coded` is the table's coded form, `payloads` are in the order of the operations that name them."""
    head = unsigned(len(table)) + unsigned(coded.coder) + unsigned(len(coded.params)) + coded.params
    return b"".join([header.to_bytes(), head, unsigned(len(coded.payload)), coded.payload, *payloads])


def check_base(header: WireHeader, base: bytes | None) -> None:
    """Raise BundleError unless `base` is the file that a delta was made for, or None for what is no delta."""
    if header.base_sha256 is None:
        if base is not None:
            raise BundleError("is no delta, so there is nothing to apply it to; use: edgepack unpack")
        return
    if base is None:
        raise BundleError(
            "is a delta and needs the file that it was made for "
            f"(SHA-256 {header.base_sha256.hex()}); use: edgepack apply OLD DELTA"
        )
    found = hashlib.sha256(base).digest()
    if found != header.base_sha256:
        raise BundleError(
            f"the delta was made for a base with SHA-256 {header.base_sha256.hex()}, but this one has {found.hex()}; "
            "apply it to the file that it was made for, or get the whole bundle"
        )


def _read_header(cursor: Cursor, wire_bytes: int) -> WireHeader:
    if wire_bytes < len(MAGIC) or cursor.take(len(MAGIC)) != MAGIC:
        raise BundleError("not a wire file that 'edgepack pack' or 'edgepack delta' wrote")
    version, flags = cursor.byte(), cursor.byte()
    if version != VERSION:
        raise BundleError(f"wire format {version} is not {VERSION}, which this edgepack reads; update edgepack")
    if flags > (IS_ARCHIVE | IS_DELTA):
        raise BundleError(f"its flags say {flags}, which means nothing; {_DAMAGED}")
    output_bytes, digest = cursor.unsigned(), cursor.take(32)
    base_bytes, base_digest = 0, None
    if flags & IS_DELTA:
        base_bytes, base_digest = cursor.unsigned(), cursor.take(32)
    free = max(FREE_BYTES, 2 * base_bytes if base_bytes < OUTPUT_BYTES_MAX else 0)
    if output_bytes > OUTPUT_BYTES_MAX or output_bytes > max(free, EXPANSION_MAX * wire_bytes):
        raise BundleError(
            f"it claims to become {output_bytes} bytes, too much for its {wire_bytes}; it was not made by edgepack"
        )
    return WireHeader(
        is_archive=bool(flags & IS_ARCHIVE),
        output_bytes=output_bytes,
        output_sha256=digest,
        base_bytes=base_bytes,
        base_sha256=base_digest,
    )
