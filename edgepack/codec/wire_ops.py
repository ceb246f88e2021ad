"""The table of a wire file: the operations that, one after the other, write the output. docs/wire-format.md is the specification."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgepack.codec.types import KINDS, Kind
from edgepack.codec.varints import Cursor, unsigned, zigzag
from edgepack.codec.zip_form import NAME_BYTES_MAX
from edgepack.core.errors import BundleError

END, ENTRY, TAIL, TAKE, TENSOR, COPY, FROM_BASE, FILL = range(8)
DIGEST, LISTING, PRODUCT, CHUNK, SEEK, TENSOR_ON_BASE, TAKE_OTHER = range(8, 15)

GROUPS_MAX = 32
DIMENSIONS_MAX = 8
PARAMS_BYTES_MAX = 4096
NAMES_GROUP = 0  # entries' names are taken from its chunks, too


@dataclass(frozen=True, slots=True)
class Entry:
    """The local header of the archive's next entry. Its name is taken from group 0."""

    name_bytes: int


@dataclass(frozen=True, slots=True)
class Tail:
    """The archive's central directory and end record."""


@dataclass(frozen=True, slots=True)
class Take:
    """The next bytes of a group's chunk. `base_bytes`: how long the stretch of the base is that stood here (`size_bytes` mostly)."""

    group: int
    size_bytes: int
    base_bytes: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor with a payload of its own; with the same stretch of the base as context where `on_base`."""

    kind: Kind
    size_bytes: int
    coder: int
    params: bytes
    payload_bytes: int
    on_base: bool


@dataclass(frozen=True, slots=True)
class Copy:
    """A tensor that was written already, `distance` bytes before: its axes permuted as NumPy's transpose does, each byte XORed.

    `shape` is that of the earlier one.
    """

    element_bytes: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    flip: int
    distance: int

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.element_bytes


@dataclass(frozen=True, slots=True)
class FromBase:
    """The base's bytes as they are."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Fill:
    """One byte again and again."""

    byte: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Digest:
    """64 hex digits: the SHA-256 of an entry's bytes. `entry` counts from 0 in archive order."""

    entry: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The manifest's `files`: path, digest and size of `count` entries from `first`, as its JSON spells them."""

    first: int
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Product:
    """Float32 values: those `distance` bytes before, each times one factor, rounded to nearest even. `factor`: its four bytes."""

    count: int
    distance: int
    factor: bytes

    @property
    def size_bytes(self) -> int:
        return 4 * self.count


@dataclass(frozen=True, slots=True)
class Chunk:
    """Decodes what the group's next takes write; with the base's stretches that stand there, joined, as context where `on_base`."""

    group: int
    kind: Kind
    size_bytes: int
    on_base: bool
    coder: int
    params: bytes
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Seek:
    """The base is read `by` bytes further on from here than it was (negative: back)."""

    by: int


Operation = (
    Entry | Tail | Take | Tensor | Copy | FromBase | Fill | Digest | Listing | Product | Chunk | Seek
)  # every one but Chunk and Seek writes


def table_bytes(operations: Sequence[Operation]) -> bytes:
    """The table of some operations."""
    return b"".join(_WRITERS[type(one)](one) for one in operations) + bytes([END])


def operations_in(table: bytes) -> Iterator[Operation]:
    """The operations of a table, one by one. Raises BundleError where it is none; what they ask for is not checked."""
    cursor = Cursor(data=table)
    while (code := cursor.byte()) != END:
        read = _READERS.get(code)
        if read is None:
            raise BundleError(f"operation {code} at byte {cursor.position - 1} of its table is unknown")
        yield read(cursor)
    if cursor.position != len(table):
        raise BundleError("its table goes on after its end")


def _coded(coder: int, params: bytes, payload_bytes: int) -> bytes:
    return unsigned(coder) + unsigned(len(params)) + params + unsigned(payload_bytes)


def _read_coded(cursor: Cursor) -> tuple[int, bytes, int]:
    return cursor.unsigned(), cursor.sized(PARAMS_BYTES_MAX), cursor.unsigned()


def _shape(shape: tuple[int, ...]) -> bytes:
    return bytes([len(shape)]) + b"".join(map(unsigned, shape))


def _read_shape(cursor: Cursor) -> tuple[int, ...]:
    count = cursor.byte()
    shape = tuple(cursor.unsigned() for _ in range(count if count <= DIMENSIONS_MAX else 0))
    if not shape or 0 in shape or math.prod(shape) >= 1 << 40:
        raise BundleError("a tensor in its table has no shape that can be")
    return shape


def _read_kind(cursor: Cursor) -> Kind:
    number = cursor.byte()
    if number >= len(KINDS):
        raise BundleError(f"kind {number} in its table is unknown")
    return KINDS[number]


def _write_take(one: Take) -> bytes:
    if one.base_bytes == one.size_bytes:
        return bytes([TAKE, one.group]) + unsigned(one.size_bytes)
    difference = zigzag(one.base_bytes - one.size_bytes)
    return bytes([TAKE_OTHER, one.group]) + unsigned(one.size_bytes) + difference


def _read_take(cursor: Cursor, *, other: bool) -> Take:
    group, size_bytes = cursor.byte(), cursor.positive()
    base_bytes = size_bytes + cursor.zigzag() if other else size_bytes
    if group >= GROUPS_MAX or base_bytes < 0:
        raise BundleError("its table takes from a group that can't be")
    return Take(group, size_bytes, base_bytes)


def _write_tensor(one: Tensor) -> bytes:
    head = bytes([TENSOR_ON_BASE if one.on_base else TENSOR, KINDS.index(one.kind)]) + unsigned(one.size_bytes)
    return head + _coded(one.coder, one.params, one.payload_bytes)


def _read_tensor(cursor: Cursor, *, on_base: bool) -> Tensor:
    return Tensor(_read_kind(cursor), cursor.positive(), *_read_coded(cursor), on_base)


def _write_copy(one: Copy) -> bytes:
    head = bytes([COPY, one.element_bytes]) + _shape(one.shape)
    return head + bytes(one.axes) + bytes([one.flip]) + unsigned(one.distance)


def _read_copy(cursor: Cursor) -> Copy:
    element_bytes, shape = cursor.byte(), _read_shape(cursor)
    axes = tuple(cursor.take(len(shape)))
    if element_bytes not in (1, 2, 4, 8) or sorted(axes) != list(range(len(shape))):
        raise BundleError("a copy in its table has axes or elements that can't be")
    return Copy(element_bytes, shape, axes, cursor.byte(), cursor.positive())


def _write_chunk(one: Chunk) -> bytes:
    head = bytes([CHUNK, one.group, KINDS.index(one.kind), one.on_base]) + unsigned(one.size_bytes)
    return head + _coded(one.coder, one.params, one.payload_bytes)


def _read_chunk(cursor: Cursor) -> Chunk:
    group, kind, on_base, size_bytes = cursor.byte(), _read_kind(cursor), cursor.byte(), cursor.positive()
    if group >= GROUPS_MAX or on_base > 1:
        raise BundleError("a chunk in its table has a group or a context that can't be")
    return Chunk(group, kind, size_bytes, bool(on_base), *_read_coded(cursor))


def _read_entry(cursor: Cursor) -> Entry:
    name_bytes = cursor.positive()
    if name_bytes > NAME_BYTES_MAX:
        raise BundleError(f"an entry in its table has a name of {name_bytes} bytes, more than {NAME_BYTES_MAX}")
    return Entry(name_bytes)


_WRITERS: dict[type, Callable[..., bytes]] = {
    Entry: lambda one: bytes([ENTRY]) + unsigned(one.name_bytes),
    Tail: lambda one: bytes([TAIL]),
    Take: _write_take,
    Tensor: _write_tensor,
    Copy: _write_copy,
    FromBase: lambda one: bytes([FROM_BASE]) + unsigned(one.size_bytes),
    Fill: lambda one: bytes([FILL, one.byte]) + unsigned(one.size_bytes),
    Digest: lambda one: bytes([DIGEST]) + unsigned(one.entry),
    Listing: lambda one: bytes([LISTING]) + unsigned(one.first) + unsigned(one.count) + unsigned(one.size_bytes),
    Product: lambda one: bytes([PRODUCT]) + unsigned(one.count) + unsigned(one.distance) + one.factor,
    Chunk: _write_chunk,
    Seek: lambda one: bytes([SEEK]) + zigzag(one.by),
}
_READERS: dict[int, Callable[[Cursor], Operation]] = {
    ENTRY: _read_entry,
    TAIL: lambda cursor: Tail(),
    TAKE: lambda cursor: _read_take(cursor, other=False),
    TAKE_OTHER: lambda cursor: _read_take(cursor, other=True),
    TENSOR: lambda cursor: _read_tensor(cursor, on_base=False),
    TENSOR_ON_BASE: lambda cursor: _read_tensor(cursor, on_base=True),
    COPY: _read_copy,
    FROM_BASE: lambda cursor: FromBase(cursor.positive()),
    FILL: lambda cursor: Fill(cursor.byte(), cursor.positive()),
    DIGEST: lambda cursor: Digest(cursor.unsigned()),
    LISTING: lambda cursor: Listing(cursor.unsigned(), cursor.positive(), cursor.positive()),
    PRODUCT: lambda cursor: Product(cursor.positive(), cursor.positive(), cursor.take(4)),
    CHUNK: _read_chunk,
    SEEK: lambda cursor: Seek(cursor.zigzag()),
}
