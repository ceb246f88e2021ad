"""Accuracy against latency against size: which models no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.core.digest import digest_of
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
    """Points of one device that may be compared: models of one bundle's name, one protocol, the same inputs. `about` tells panels of a device apart.

    Without any accuracy size stands on the axis instead; `left_out` are the rows without one beside rows with one.
    """

    place: Place
    about: str
    unit: str
    with_accuracy: bool
    points: tuple[Point, ...]
    left_out: tuple[str, ...]


def tradeoffs(rows: Sequence[Row]) -> tuple[TradeoffPanel, ...]:
    """Panels of every device, each with two points at least."""
    found = []
    for place, group in by_place(rows).items():
        comparable: dict[tuple[str, ...], list[Row]] = {}
        for row in group:
            comparable.setdefault(_what_must_match(row), []).append(row)
        for key, members in comparable.items():
            panel = _panel(place, members, about=_about(key, list(comparable)))
            if len(panel.points) > 1:
                found.append(panel)
    return tuple(found)


def _what_must_match(row: Row) -> tuple[str, ...]:
    """Bundle's name, suite, protocol and inputs, each in words."""
    conditions = row.conditions
    return (
        row.subject.bundle or "no bundle",
        f"suite {conditions.suite}",
        f"protocol {digest_of(dict(conditions.protocol))[:8]}",
        f"inputs {conditions.inputs_sha256[:8]}" if conditions.inputs_sha256 else "a random input",
    )


def _about(key: tuple[str, ...], every: Sequence[tuple[str, ...]]) -> str:
    """The parts of a key in which the keys differ."""
    return ", ".join(part for place, part in enumerate(key) if len({other[place] for other in every}) > 1)


def _panel(place: Place, rows: Sequence[Row], *, about: str) -> TradeoffPanel:
    with_accuracy = any(row.numbers["accuracy"].value is not None for row in rows)
    shown = [row for row in rows if not with_accuracy or row.numbers["accuracy"].value is not None]
    goods = {row.id: _goods(row) for row in shown}
    points = tuple(_point(row, goods) for row in shown)
    left_out = tuple(row.id for row in rows if row not in shown)
    return TradeoffPanel(
        place=place, about=about, unit=UNIT[place.kind], with_accuracy=with_accuracy, points=points, left_out=left_out
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
