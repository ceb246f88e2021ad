"""Accuracy against latency against size: which models no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.report.panels import UNIT, Place, by_place
from edgepack.report.rows import Row
from edgepack.stats import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A row as a point; `beaten_by` are rows that are at least as good in everything and better in something."""

    row: str
    speed: float
    speed_ci95: Interval | None
    size_bytes: float
    accuracy: float | None
    accuracy_ci95: Interval | None
    beaten_by: tuple[str, ...]

    @property
    def on_front(self) -> bool:
        """Whether no other point beats it."""
        return not self.beaten_by


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeoffPanel:
    """Points of one device. Without any accuracy size stands on the axis instead; `left_out` are the rows without one beside rows with one."""

    place: Place
    unit: str
    with_accuracy: bool
    points: tuple[Point, ...]
    left_out: tuple[str, ...]


def tradeoffs(rows: Sequence[Row]) -> tuple[TradeoffPanel, ...]:
    """A panel for each device with two points at least."""
    return tuple(panel for place, group in by_place(rows).items() if len((panel := _panel(place, group)).points) > 1)


def _panel(place: Place, rows: Sequence[Row]) -> TradeoffPanel:
    with_accuracy = any(row.numbers["accuracy"].value is not None for row in rows)
    shown = [row for row in rows if not with_accuracy or row.numbers["accuracy"].value is not None]
    goods = {row.id: _goods(row) for row in shown}
    points = tuple(_point(row, goods) for row in shown)
    left_out = tuple(row.id for row in rows if row not in shown)
    return TradeoffPanel(
        place=place, unit=UNIT[place.kind], with_accuracy=with_accuracy, points=points, left_out=left_out
    )


def _goods(row: Row) -> tuple[float, ...]:
    """What is wanted small: time, bytes, and errors where accuracy is known."""
    accuracy = row.numbers["accuracy"].value
    return row.speed, float(row.subject.size_bytes), 0.0 if accuracy is None else -accuracy


def _point(row: Row, goods: dict[str, tuple[float, ...]]) -> Point:
    mine = goods[row.id]
    beaten_by = tuple(
        other
        for other, theirs in goods.items()
        if theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True))
    )
    accuracy = row.numbers["accuracy"]
    return Point(
        row=row.id,
        speed=row.speed,
        speed_ci95=row.numbers[row.metric].ci95,
        size_bytes=float(row.subject.size_bytes),
        accuracy=accuracy.value,
        accuracy_ci95=accuracy.ci95,
        beaten_by=beaten_by,
    )
