"""Where a name stands beside its mark, so that names cover neither each other nor a mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_EM = 6.3  # mean width of a letter at 12 px
_HEIGHT = 13.0
_COVERED_MAX = 0.4  # of its own area


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle on the figure."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is named: its middle, its radius and the name."""

    x: float
    y: float
    radius: float
    name: str


def placed(marks: Sequence[Mark], *, within: Box) -> list[tuple[float, float, str] | None]:
    """For each mark (x, baseline, anchor) of its name: the place of eight around it that covers least, in turn; None where all cover too much."""
    taken = [Box(left=m.x - m.radius, top=m.y - m.radius, right=m.x + m.radius, bottom=m.y + m.radius) for m in marks]
    found: list[tuple[float, float, str] | None] = []
    for mark in marks:
        choices = [(_cost(box, taken, within), x, y, anchor, box) for x, y, anchor, box in _around(mark)]
        cost, x, y, anchor, box = min(choices, key=lambda choice: choice[0])
        if cost > _COVERED_MAX * (box.right - box.left) * (box.bottom - box.top):
            found.append(None)
            continue
        taken.append(box)
        found.append((x, y, anchor))
    return found


def _around(mark: Mark) -> list[tuple[float, float, str, Box]]:
    width, gap = _EM * len(mark.name), 1.3 * mark.radius + 3
    places = [
        (mark.x + side * gap, mark.y + down, "start" if side > 0 else "end") for down in (4, -6, 14) for side in (1, -1)
    ]
    places += [(mark.x, mark.y - gap - 1, "middle"), (mark.x, mark.y + gap + 9, "middle")]
    shift = {"start": 0.0, "middle": width / 2, "end": width}
    return [
        (
            x,
            y,
            anchor,
            Box(left=x - shift[anchor], top=y - 10, right=x - shift[anchor] + width, bottom=y - 10 + _HEIGHT),
        )
        for x, y, anchor in places
    ]


def _cost(box: Box, taken: Sequence[Box], within: Box) -> float:
    outside = (box.right - box.left) * (box.bottom - box.top) - box.overlap(within)
    return 3 * outside + sum(box.overlap(other) for other in taken)
