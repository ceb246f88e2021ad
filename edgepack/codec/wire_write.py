"""A file's wire form, or what is new in it against a base: the plan, coded, and read back before anyone gets it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from edgepack.codec.coders import decode, encode
from edgepack.codec.pieces import Taken, take_apart
from edgepack.codec.segments import Beside, no_file_beside
from edgepack.codec.types import BITS, Coded, Profile, Segment
from edgepack.codec.wire import EXPANSION_MAX, FREE_BYTES, WireHeader, write_wire
from edgepack.codec.wire_ops import GROUPS_MAX, Chunk, Operation, Take, Tensor, table_bytes
from edgepack.codec.wire_parts import WirePart, parts_of
from edgepack.codec.wire_plan import BYTES_GROUP, Alone, Plan, Stretch, plan_of
from edgepack.codec.wire_read import unpack_wire
from edgepack.core.errors import BundleError

_CHUNK_BYTES = 2 << 20  # of the bytes group; a reader allows 4 MiB for all groups together
_TYPED_CHUNK_BYTES = 128 << 10
_CONTEXT_BYTES = 5 << 20  # of the base, for one chunk; a reader allows 6 MiB
Progress = Callable[[int, int], None]  # bytes coded by now, and of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A wire file's bytes, and what became of each part of the file, in order of their sizes on the wire."""

    wire: bytes
    parts: tuple[WirePart, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What is coded on its own: a tensor (its step) or a chunk (its stretches)."""

    steps: tuple[Alone | Stretch, ...]
    segment: Segment
    data: bytes
    base: bytes | None


def pack_wire(
    data: bytes,
    name: str,
    *,
    profile: Profile = "small",
    base: bytes | None = None,
    base_name: str = "",
    beside: Beside = no_file_beside,
    base_beside: Beside = no_file_beside,
    progress: Progress | None = None,
) -> Packed:
    """The wire form of a bundle's archive or a single file, or with `base` the delta from it.

    `name` says by its suffix what the file is, `beside` gives files of its folder (a `.bin` needs its `.xml`). The result was read
    back: it gives exactly `data`. Raises BundleError for a file that shrinks so far that a reader would take it for a bomb.
    """
    new = take_apart(data, name, beside)
    old = take_apart(base, base_name or name, base_beside) if base is not None else None
    plan = plan_of(new, old)
    jobs = _jobs(plan)
    proven = Proven()
    coded = _coded(jobs, profile, proven, progress)
    operations, payloads = _operations(plan, jobs, coded)
    table = table_bytes(operations)
    table_coded = encode(table, Segment(size_bytes=len(table), name="the table"), profile=profile)
    wire = write_wire(_header(new, base), table, table_coded, payloads)
    if len(data) > max(FREE_BYTES, 2 * len(base or b"")) and len(data) > EXPANSION_MAX * len(wire):
        raise BundleError(
            f"{name}: {len(data)} bytes become {len(wire)}, which no reader believes; send the file itself, gzipped"
        )
    if unpack_wire(wire, base=base, decode=proven.decode) != data:
        raise BundleError(f"{name}: its wire form doesn't give the same bytes back; please report this with the file")
    return Packed(wire=wire, parts=parts_of(plan, jobs, coded, wire_bytes=len(wire), output_bytes=len(data)))


def _header(new: Taken, base: bytes | None) -> WireHeader:
    return WireHeader(
        is_archive=bool(new.members),
        output_bytes=len(new.data),
        output_sha256=hashlib.sha256(new.data).digest(),
        base_bytes=len(base) if base is not None else 0,
        base_sha256=hashlib.sha256(base).digest() if base is not None else None,
    )


@dataclass(slots=True)
class _Filling:
    """A chunk that still takes stretches."""

    stretches: list[Alone | Stretch]
    size_bytes: int = 0
    base_bytes: int = 0

    def has_room(self, following: Stretch) -> bool:
        limit = _CHUNK_BYTES if following.group == BYTES_GROUP else _TYPED_CHUNK_BYTES
        has_context = self.base_bytes + following.base_bytes <= _CONTEXT_BYTES
        return self.size_bytes + following.size_bytes <= limit and has_context

    def add(self, stretch: Stretch) -> None:
        self.stretches.append(stretch)
        self.size_bytes += stretch.size_bytes
        self.base_bytes += stretch.base_bytes


def _jobs(plan: Plan) -> list[Job]:
    """Tensors and chunks in the order in which a reader needs them: each by its first step."""
    found: list[list[Alone | Stretch]] = []
    chunks: dict[tuple[str, str], _Filling] = {}
    for step in plan.steps:
        if isinstance(step, Alone):
            found.append([step])
        elif isinstance(step, Stretch):
            chunk = chunks.get(step.group)
            if chunk is None or not chunk.has_room(step):
                chunk = chunks[step.group] = _Filling([])
                found.append(chunk.stretches)
            chunk.add(step)
    return [_job(plan, tuple(steps)) for steps in found]


def _job(plan: Plan, steps: tuple[Alone | Stretch, ...]) -> Job:
    first = steps[0]
    old = plan.old.data if plan.old is not None else b""
    if isinstance(first, Alone):
        base = None if first.base_start is None else old[first.base_start : first.base_start + first.piece.size_bytes]
        return Job(steps, first.piece.segment, plan.new.bytes_of(first.piece), base)
    stretches = [one for one in steps if isinstance(one, Stretch)]
    data = b"".join(one.name or plan.new.data[one.start : one.start + one.size_bytes] for one in stretches)
    history = b"".join(old[one.base_start : one.base_start + one.base_bytes] for one in stretches)
    kind = first.group[0]
    shape = () if kind == "bytes" else (len(data) * 8 // BITS[kind],)
    segment = Segment(size_bytes=len(data), kind=kind, shape=shape, name=" ".join(first.group))
    return Job(steps, segment, data, history or None)


@dataclass(frozen=True, slots=True)
class Proven:
    """Coded forms that were decoded once, right after they were made and on the same core, to what they were made from."""

    results: dict[tuple[int, bytes, bytes], Job] = field(default_factory=dict)

    def encode(self, job: Job, profile: Profile) -> Coded:
        """The coded form. Raises BundleError where it doesn't give the same bytes back."""
        coded = encode(job.data, job.segment, profile=profile, base=job.base)
        if decode(coded, job.segment, base=job.base) != job.data:
            raise BundleError(
                f"{job.segment.name}: its coded form doesn't give the same bytes back; please report this"
            )
        self.results[(coded.coder, coded.params, coded.payload)] = job
        return coded

    def decode(self, coded: Coded, segment: Segment, *, base: bytes | None = None) -> bytes:
        """As `coders.decode`, without decoding again what was asked in the same way before."""
        job = self.results.get((coded.coder, coded.params, coded.payload))
        asked = (segment.kind, segment.size_bytes, base)
        if job is not None and (job.segment.kind, len(job.data), job.base) == asked:
            return job.data
        return decode(coded, segment, base=base)


def _coded(jobs: Sequence[Job], profile: Profile, proven: Proven, progress: Progress | None) -> list[Coded]:
    """Largest first, on as many cores as there are: the coders run in C and leave Python free."""
    total, done = sum(len(job.data) for job in jobs), 0
    results: dict[int, Coded] = {}
    order = sorted(range(len(jobs)), key=lambda number: -len(jobs[number].data))
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        running = [(number, pool.submit(proven.encode, jobs[number], profile)) for number in order]
        for number, future in running:
            results[number] = future.result()
            done += len(jobs[number].data)
            if progress is not None:
                progress(done, total)
    return [results[number] for number in range(len(jobs))]


def _operations(plan: Plan, jobs: Sequence[Job], coded: Sequence[Coded]) -> tuple[list[Operation], list[bytes]]:
    """The table's operations, and the payloads in their order."""
    starting = {id(job.steps[0]): number for number, job in enumerate(jobs)}
    groups: dict[tuple[str, str], int] = {BYTES_GROUP: 0}
    operations: list[Operation] = []
    payloads: list[bytes] = []
    for step in plan.steps:
        number = starting.get(id(step))
        if number is not None:
            payloads.append(coded[number].payload)
            if isinstance(step, Stretch):
                group = groups.setdefault(step.group, len(groups))
                assert group < GROUPS_MAX
                operations.append(_chunk(group, jobs[number], coded[number]))
        if isinstance(step, Alone):
            assert number is not None
            operations.append(_tensor(step, coded[number]))
        elif not isinstance(step, Stretch):
            operations.append(step)
        elif not step.name:
            base_bytes = step.size_bytes if plan.old is None else step.base_bytes
            operations.append(Take(groups[step.group], step.size_bytes, base_bytes))
    return operations, payloads


def _chunk(group: int, job: Job, coded: Coded) -> Chunk:
    kind, size_bytes = job.segment.kind, len(job.data)
    return Chunk(group, kind, size_bytes, job.base is not None, coded.coder, coded.params, len(coded.payload))


def _tensor(step: Alone, coded: Coded) -> Tensor:
    kind, size_bytes = step.piece.segment.kind, step.piece.size_bytes
    return Tensor(kind, size_bytes, coded.coder, coded.params, len(coded.payload), step.base_start is not None)
