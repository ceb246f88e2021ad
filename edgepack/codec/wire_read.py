"""From the wire back to the file, bit by bit the same: the operations of the table, run one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgepack.codec import coders
from edgepack.codec.derived import Hole, fill_in
from edgepack.codec.from_tensors import permuted, products
from edgepack.codec.types import Coded, Segment
from edgepack.codec.wire import Wire, check_base, open_wire
from edgepack.codec.wire_ops import (
    NAMES_GROUP,
    Chunk,
    Copy,
    Digest,
    Entry,
    Fill,
    FromBase,
    Listing,
    Operation,
    Product,
    Seek,
    Tail,
    Take,
    Tensor,
    operations_in,
)
from edgepack.codec.zip_form import ENTRIES_MAX, Member, header_bytes, tail_bytes
from edgepack.core.errors import BundleError

CHUNKS_BYTES_MAX = 4 << 20  # of all groups' chunks together, at any time
HISTORY_BYTES_MAX = 6 << 20
CODED_MAX = 1 << 15  # tensors and chunks: each costs a coder its start
HOLES_MAX = 1 << 16
_DAMAGED = "the file is damaged or was changed; get it again"
Decode = Callable[..., bytes]


def unpack_wire(wire: bytes, *, base: bytes | None = None, decode: Decode | None = None) -> bytes:
    """The file that a wire file or, with its base, a delta holds.

    `decode` is that of `edgepack.codec.coders` unless another is named: that of `codec.reference` needs no compiled library.
    Raises BundleError where anything is not as it was packed, a wrong base included: the result has the SHA-256 that it must have.
    """
    decode = decode or coders.decode
    opened = open_wire(wire, decode=decode)
    check_base(opened.header, base)
    run = _Run(wire=opened, base=base or b"", decode=decode)
    return run.output()


@dataclass(slots=True, kw_only=True)
class _Group:
    chunk: bytes = b""
    taken: int = 0


@dataclass(slots=True, kw_only=True)
class _Run:
    """The output in the making. `position`: where the next byte is written; `shift`: how far ahead of it the base is read."""

    wire: Wire
    base: bytes
    decode: Decode
    out: bytearray = field(default_factory=bytearray)
    position: int = 0
    shift: int = 0
    paid: int = 0
    coded: int = 1  # the table is the first
    history: int = 0
    groups: dict[int, _Group] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    names: tuple[int, int] = (0, 0)  # how many entries there are by now, and how long their names are together
    holes: list[Hole] = field(default_factory=list)
    tail_at: int | None = None

    def output(self) -> bytes:
        self.out = bytearray(self.wire.header.output_bytes)
        operations = list(operations_in(self.wire.table))
        for number, operation in enumerate(operations):
            if isinstance(operation, Chunk):
                self._open(operation, operations, number + 1)
            elif isinstance(operation, Seek):
                self.shift += operation.by
            else:
                self._write(operation)
        self._finish_entry()
        if self.wire.header.is_archive != bool(self.members):
            raise BundleError(f"it is an archive and says otherwise, or the other way round; {_DAMAGED}")
        if self.position != len(self.out) or self.paid != len(self.wire.payloads):
            raise BundleError(f"its operations don't give what its header says; {_DAMAGED}")
        if any(group.taken != len(group.chunk) for group in self.groups.values()):
            raise BundleError(f"it holds bytes that nothing uses; {_DAMAGED}")
        fill_in(self.out, self.members, self.holes, tail_at=self.tail_at)
        if hashlib.sha256(self.out).digest() != self.wire.header.output_sha256:
            raise BundleError(f"what it holds has another SHA-256 than its header says; {_DAMAGED}")
        return bytes(self.out)

    def _write(self, operation: Operation) -> None:
        size_bytes = _size(operation, self.position, self.names)
        start, end = self.position, self.position + size_bytes
        if end > len(self.out):
            raise BundleError(f"it writes past the end of its output; {_DAMAGED}")
        match operation:
            case Entry():
                self._begin_entry(operation, end)
            case Tail():
                self._finish_entry()
                self.tail_at = start
            case Take():
                self.out[start:end] = self._taken(operation.group, operation.size_bytes)
                self.shift += operation.base_bytes - size_bytes
            case Tensor():
                self.out[start:end] = self._tensor(operation)
            case FromBase():
                self.out[start:end] = self._from_base(start + self.shift, size_bytes)
            case Fill():
                self.out[start:end] = bytes([operation.byte]) * size_bytes
            case Copy():
                self.out[start:end] = permuted(operation, self._earlier(operation.distance, size_bytes))
            case Product():
                self.out[start:end] = products(operation, self._earlier(operation.distance, size_bytes))
            case Digest() | Listing():
                self._leave_hole(operation, start, size_bytes)
        self.position = end

    def _begin_entry(self, operation: Entry, end: int) -> None:
        self._finish_entry()
        if self.tail_at is not None or len(self.members) == ENTRIES_MAX:
            raise BundleError(f"its archive has entries where none can be; {_DAMAGED}")
        name = self._taken(NAMES_GROUP, operation.name_bytes)
        self.members.append(Member(name, self.position, end, 0))
        self.names = (len(self.members), self.names[1] + len(name))

    def _finish_entry(self) -> None:
        if self.members and self.tail_at is None:
            last = self.members[-1]
            size_bytes = self.position - last.data_offset
            self.members[-1] = Member(last.name, last.header_offset, last.data_offset, size_bytes)

    def _leave_hole(self, operation: Digest | Listing, start: int, size_bytes: int) -> None:
        if not self.members or self.tail_at is not None or len(self.holes) == HOLES_MAX:
            raise BundleError(f"it has a digest where none can be; {_DAMAGED}")
        first, count = (operation.entry, 0) if isinstance(operation, Digest) else (operation.first, operation.count)
        self.holes.append(Hole(start, size_bytes, len(self.members) - 1, first, count))

    def _payload(self, coder: int, params: bytes, payload_bytes: int) -> Coded:
        self.coded += 1
        if self.paid + payload_bytes > len(self.wire.payloads) or self.coded > CODED_MAX:
            raise BundleError(f"cut off: its payloads are not all there; {_DAMAGED}")
        payload = bytes(self.wire.payloads[self.paid : self.paid + payload_bytes])
        self.paid += payload_bytes
        return Coded(coder=coder, params=params, payload=payload)

    def _tensor(self, one: Tensor) -> bytes:
        segment = Segment(size_bytes=one.size_bytes, kind=one.kind, name=f"the tensor at byte {self.position}")
        base = self._from_base(self.position + self.shift, one.size_bytes) if one.on_base else None
        return self.decode(self._payload(one.coder, one.params, one.payload_bytes), segment, base=base)

    def _open(self, one: Chunk, operations: list[Operation], following: int) -> None:
        old = self.groups.get(one.group)
        live = sum(len(group.chunk) for number, group in self.groups.items() if number != one.group)
        if (old is not None and old.taken != len(old.chunk)) or live + one.size_bytes > CHUNKS_BYTES_MAX:
            raise BundleError(f"it has a chunk where none can be, or too large a one; {_DAMAGED}")
        history = b"".join(self._base_of(one, operations, following)) if one.on_base else None
        self.history += len(history or b"")
        if self.history > len(self.base) + len(self.out):
            raise BundleError(f"its chunks have more context than there is; {_DAMAGED}")
        segment = Segment(size_bytes=one.size_bytes, kind=one.kind, name="a chunk")
        coded = self._payload(one.coder, one.params, one.payload_bytes)
        self.groups[one.group] = _Group(chunk=self.decode(coded, segment, base=history))

    def _base_of(self, chunk: Chunk, operations: list[Operation], following: int) -> Iterator[bytes]:
        """The stretches of the base that stand where the chunk's takes write, found by looking ahead."""
        position, shift, taken, gathered = self.position, self.shift, 0, 0
        names = self.names
        for operation in operations[following:]:
            if taken >= chunk.size_bytes:
                return
            size_bytes = _size(operation, position, names)
            match operation:
                case Chunk(group=chunk.group):
                    break
                case Seek():
                    shift += operation.by
                case Entry():
                    names = (names[0] + 1, names[1] + operation.name_bytes)
                    taken += operation.name_bytes if chunk.group == NAMES_GROUP else 0
                case Take():
                    if operation.group == chunk.group:
                        gathered += operation.base_bytes
                        taken += size_bytes
                        if gathered > HISTORY_BYTES_MAX:
                            raise BundleError(f"a chunk has more context than is allowed; {_DAMAGED}")
                        yield self._from_base(position + shift, operation.base_bytes)
                    shift += operation.base_bytes - size_bytes
            position += size_bytes
        if taken < chunk.size_bytes:
            raise BundleError(f"a chunk is not used up; {_DAMAGED}")

    def _taken(self, number: int, size_bytes: int) -> bytes:
        group = self.groups.get(number)
        if group is None or group.taken + size_bytes > len(group.chunk):
            raise BundleError(f"it takes more than its chunks hold; {_DAMAGED}")
        group.taken += size_bytes
        return group.chunk[group.taken - size_bytes : group.taken]

    def _from_base(self, start: int, size_bytes: int) -> bytes:
        if size_bytes and (start < 0 or start + size_bytes > len(self.base)):
            raise BundleError(f"it reads past the end of its base; {_DAMAGED}")
        return self.base[start : start + size_bytes] if size_bytes else b""

    def _earlier(self, distance: int, size_bytes: int) -> bytes:
        start = self.position - distance
        if start < 0 or size_bytes > distance:
            raise BundleError(f"it copies what is not written yet; {_DAMAGED}")
        return bytes(self.out[start : start + size_bytes])


def _size(operation: Operation, position: int, names: tuple[int, int]) -> int:
    """How many bytes an operation writes at `position`, where so many names with so many bytes were written before."""
    match operation:
        case Entry():
            return header_bytes(operation.name_bytes, position)
        case Tail():
            return tail_bytes(*names)
        case Digest():
            return 64
        case Chunk() | Seek():
            return 0
        case _:
            return operation.size_bytes
