"""What became of each part of a file on the wire, for a table that people read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.codec.coders import CODERS
from edgepack.codec.types import BITS, Coded
from edgepack.codec.wire_ops import Copy, Digest, Entry, Fill, FromBase, Listing, Product, Tail
from edgepack.codec.wire_plan import Alone, Plan, Step, Stretch

if TYPE_CHECKING:
    from edgepack.codec.wire_write import Job

_NAMES = {number: name for name, number in CODERS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WirePart:
    """`before` bytes of the file became `after` bytes. `coder` is a number of docs/codec.md; None for what needs no coder."""

    what: str
    before: int
    after: int
    elements: int = 0
    coder: int | None = None

    @property
    def bits_per_value(self) -> float | None:
        """Bits a weight on the wire; None for what has no elements."""
        return 8 * self.after / self.elements if self.elements else None

    @property
    def coder_name(self) -> str:
        """Its name in docs/codec.md; '' for what needs none."""
        return "" if self.coder is None else _NAMES.get(self.coder, str(self.coder))


def parts_of(
    plan: Plan, jobs: Sequence[Job], coded: Sequence[Coded], *, wire_bytes: int, output_bytes: int
) -> tuple[WirePart, ...]:
    """Tensors and chunks, what is copied or derived, and the frame around them. The parts' sums are those of the files."""
    parts = [_part(job, one) for job, one in zip(jobs, coded, strict=True)]
    derived: dict[str, int] = {}
    for step in plan.steps:
        if (what := _derived(step)) is not None and isinstance(step, (Copy, Product, Fill, FromBase)):
            derived[what] = derived.get(what, 0) + step.size_bytes
    parts.extend(WirePart(what=what, before=size_bytes, after=0) for what, size_bytes in derived.items())
    rest = output_bytes - sum(part.before for part in parts)
    frame = wire_bytes - sum(part.after for part in parts)
    parts.sort(key=lambda part: -part.after)
    return (*parts, WirePart(what="headers, digests and table", before=rest, after=frame))


def _part(job: Job, coded: Coded) -> WirePart:
    first = job.steps[0]
    kind = job.segment.kind
    names = sum(len(step.name) for step in job.steps if isinstance(step, Stretch))
    before = len(job.data) - names
    if isinstance(first, Alone):
        where = f"{first.piece.path}: " if first.piece.path else ""
        what = f"{where}{job.segment.name}"
    else:
        role = first.group[1].replace(" over base", "").strip()
        what = "texts and tables" if kind == "bytes" else f"{len(job.steps)} {role or 'small tensors'} of {kind}"
    elements = 0 if kind == "bytes" else before * 8 // BITS[kind]
    after = len(coded.payload) + len(coded.params)
    return WirePart(what=what, before=before, after=after, elements=elements, coder=coded.coder)


def _derived(step: Step) -> str | None:
    match step:
        case Copy():
            return "the same values as an earlier tensor"
        case Product():
            return "scales that are others times one"
        case Fill():
            return "runs of one byte"
        case FromBase():
            return "unchanged"
        case Entry() | Tail() | Digest() | Listing() | _:
            return None
