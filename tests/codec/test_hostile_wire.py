"""Wire files that lie: each is refused with one clear message, in little time and memory, and nothing else ever comes out."""

from __future__ import annotations

import hashlib
import itertools
import time
import tracemalloc
from collections.abc import Sequence

import model_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.codec.types import Coded
from edgepack.codec.varints import unsigned
from edgepack.codec.wire import MAGIC, WireHeader, read_header, write_wire
from edgepack.codec.wire_ops import (
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
    table_bytes,
)
from edgepack.codec.wire_read import unpack_wire
from edgepack.codec.wire_write import pack_wire
from edgepack.core.errors import BundleError

FILE = model_files.tflite()
WIRE = pack_wire(FILE.data, FILE.name).wire
RAW = 0


def wire(
    operations: Sequence[Operation], payloads: Sequence[bytes] = (), *, size_bytes: int, is_archive: bool = False
) -> bytes:
    """A wire file with a right header and any operations."""
    header = WireHeader(is_archive=is_archive, output_bytes=size_bytes, output_sha256=bytes(32))
    table = table_bytes(operations)
    return write_wire(header, table, Coded(coder=RAW, params=b"", payload=table), list(payloads))


def chunk(size_bytes: int, group: int = 0) -> Chunk:
    return Chunk(group, "bytes", size_bytes, False, RAW, b"", size_bytes)


@pytest.mark.parametrize("end", range(0, len(WIRE), max(1, len(WIRE) // 200)))
def test_a_file_that_is_cut_off_is_refused(end: int) -> None:
    with pytest.raises(BundleError):
        unpack_wire(WIRE[:end])


def test_a_file_that_goes_on_is_refused() -> None:
    with pytest.raises(BundleError):
        unpack_wire(WIRE + b"\0")


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(WIRE) - 1), by=st.integers(1, 255))
def test_a_changed_byte_never_gives_other_bytes(place: int, by: int) -> None:
    changed = bytearray(WIRE)
    changed[place] ^= by

    try:
        restored = unpack_wire(bytes(changed))
    except BundleError:
        return
    assert restored == FILE.data  # the last bits of a payload may mean nothing


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_behind_the_magic_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        unpack_wire(MAGIC + b"\x01\x00" + data)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "not a wire file"),
        (b"PK\x03\x04", "not a wire file"),
        (MAGIC + b"\x02\x00", "wire format 2 is not 1"),
        (MAGIC + b"\x01\x04" + unsigned(5) + bytes(40), "flags say 4"),
        (MAGIC + b"\x01\x00" + unsigned(1 << 41) + bytes(40), "too much"),
        (MAGIC + b"\x01\x00" + unsigned(70 << 20) + bytes(40), "claims to become 73400320 bytes"),
        (MAGIC + b"\x01\x00\x80\x00" + bytes(40), "longer than it need be"),
        (MAGIC + b"\x01\x00" + b"\xff" * 10 + bytes(40), "too large"),
        (MAGIC + b"\x01\x00" + unsigned(5) + bytes(32) + unsigned(1 << 40), "its table has"),
        (MAGIC + b"\x01\x00" + unsigned(5) + bytes(32) + b"\x05\x00" + unsigned(5000), "at most 4096"),
    ],
)
def test_a_head_that_lies_is_refused_with_what_is_wrong(head: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        unpack_wire(head)


LIES: dict[str, tuple[Sequence[Operation], Sequence[bytes], int, bool]] = {
    "more than the output": ([Fill(0, 11)], [], 10, False),
    "less than the output": ([Fill(0, 9)], [], 10, False),
    "a take without a chunk": ([Take(0, 4, 4)], [], 4, False),
    "a take of too much": ([chunk(4), Take(0, 5, 5)], [bytes(4)], 5, False),
    "a chunk that nothing takes": ([chunk(4), Fill(0, 4)], [bytes(4)], 4, False),
    "a chunk over a chunk": ([chunk(4), chunk(4), Take(0, 4, 4)], [bytes(4), bytes(4)], 4, False),
    "a chunk of 5 MiB": ([chunk(5 << 20), Take(0, 5 << 20, 5 << 20)], [bytes(5 << 20)], 5 << 20, False),
    "a payload that isn't there": ([chunk(9), Take(0, 9, 9)], [bytes(4)], 9, False),
    "a payload too many": ([Fill(0, 4)], [bytes(4)], 4, False),
    "a copy of what comes later": ([Fill(0, 4), Copy(1, (4,), (0,), 0, 5)], [], 8, False),
    "a copy over itself": ([Fill(0, 4), Copy(1, (5,), (0,), 0, 4)], [], 9, False),
    "a product of zeros": ([Fill(0, 8), Product(2, 8, b"\0\0\x80?")], [], 16, False),
    "a product with infinity": ([Fill(0x3F, 8), Product(2, 8, b"\0\0\x80\x7f")], [], 16, False),
    "a base that isn't there": ([FromBase(4)], [], 4, False),
    "a base before its start": ([Seek(-9), FromBase(4)], [], 4, False),
    "a base beyond all": ([Seek(1 << 50), FromBase(4)], [], 4, False),
    "a digest outside of an archive": ([Digest(0)], [], 64, False),
    "a tail without an archive": ([Tail()], [], 22, False),
    "an archive that says it is none": ([chunk(1), Entry(1), Tail()], [b"a"], 64 + 47 + 22, False),
    "an archive without a tail": ([chunk(1), Entry(1)], [b"a"], 64, True),
    "an archive with two tails": ([chunk(1), Entry(1), Tail(), Tail()], [b"a"], 64 + 2 * 69, True),
    "an entry behind the tail": ([chunk(2), Entry(1), Tail(), Entry(1)], [b"ab"], 64 + 69 + 64, True),
    "a digest of itself": ([chunk(1), Entry(1), Digest(0), Tail()], [b"a"], 128 + 69, True),
    "a digest of no entry": ([chunk(1), Entry(1), Digest(7), Tail()], [b"a"], 128 + 69, True),
    "a listing of a million": ([chunk(1), Entry(1), Listing(0, 10**6, 640), Tail()], [b"a"], 704 + 69, True),
    "a listing without room": ([chunk(1), Entry(1), Listing(0, 1, 5), Tail()], [b"a"], 64 + 5 + 69, True),
    "an unknown coder": ([Tensor("i8", 4, 99, b"", 4, False)], [bytes(4)], 4, False),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_table_that_lies_is_refused(lie: str) -> None:
    operations, payloads, size_bytes, is_archive = LIES[lie]

    with pytest.raises(BundleError):
        unpack_wire(wire(operations, payloads, size_bytes=size_bytes, is_archive=is_archive))


def test_digests_that_need_each_other_are_refused() -> None:
    operations = [chunk(2), Entry(1), Digest(1), Entry(1), Digest(0), Tail()]

    with pytest.raises(BundleError, match="can't be"):
        unpack_wire(wire(operations, [b"ab"], size_bytes=2 * 128 + 2 * 47 + 22, is_archive=True))


def test_digests_nested_too_deeply_are_refused() -> None:
    entries = list(itertools.chain.from_iterable([Entry(1), Digest(number + 1)] for number in range(20)))
    operations = [chunk(21), *entries, Entry(1), Tail()]

    with pytest.raises(BundleError, match="can't be"):
        unpack_wire(wire(operations, [b"a" * 21], size_bytes=20 * 128 + 64 + 21 * 47 + 22, is_archive=True))


def test_what_was_decoded_must_have_the_digest_of_the_header() -> None:
    with pytest.raises(BundleError, match="another SHA-256"):
        unpack_wire(wire([Fill(7, 10)], size_bytes=10))


@pytest.mark.parametrize("operation", [Fill(0, 1), Seek(1), Entry(1), Tensor("i8", 1, RAW, b"", 0, False)])
def test_a_table_of_a_million_operations_is_refused_in_bounded_time_and_memory(operation: Operation) -> None:
    count = 50_000
    file = wire([operation] * count, size_bytes=3 * count)
    begin = time.process_time()
    tracemalloc.start()

    with pytest.raises(BundleError):
        unpack_wire(file)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - begin < 10
    assert peak_bytes < 80 << 20


def test_a_claim_of_much_from_little_is_refused_before_memory_is_taken() -> None:
    header = WireHeader(is_archive=False, output_bytes=1 << 39, output_sha256=hashlib.sha256().digest())

    with pytest.raises(BundleError, match="was not made by edgepack"):
        read_header(header.to_bytes() + bytes(1000))
