"""Accuracy against latency, size as area; what no other model beats is filled."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from edgepack.report.draw.axes import side_axis, value_axis
from edgepack.report.draw.labels import Box, Mark, placed
from edgepack.report.draw.style import Style
from edgepack.report.draw.svg import WIDTH, Scale, join, line, marker, padded, picture, text
from edgepack.report.panels import MIDDLE
from edgepack.report.text import interval, number, size
from edgepack.report.tradeoff import Point, TradeoffPanel

_TOP, _BOTTOM, _LEFT, _RIGHT = 30.0, 230.0, 52.0, WIDTH - 14.0
_LARGEST, _SMALLEST = 15.0, 4.0
_LOG_FROM = 8.0


def scatter_figure(panel: TradeoffPanel, styles: dict[str, Style]) -> Markup:
    """One device's models."""
    x = _time_scale(panel)
    y = _side_scale(panel)
    noun = f"{MIDDLE[panel.place.kind]}{', ms' if panel.unit == 'ms' else ' of one inference'}"
    side = ("accuracy, %", 100.0) if panel.with_accuracy else ("model file, kB", 1e-3)
    parts = [
        value_axis(x, top=_TOP, bottom=_BOTTOM, title=noun),
        side_axis(y, left=_LEFT, right=_RIGHT, title=side[0], factor=side[1]),
    ]
    largest = max(point.size_bytes for point in panel.points)
    by_area = sorted(panel.points, key=lambda point: -point.size_bytes)  # small ones on top
    parts += [_point(point, x, y, panel, styles[point.row], largest) for point in by_area]
    parts += _names(by_area, x, y, panel, styles, largest)
    return picture(join(parts), height=_BOTTOM + 38, title=f"Trade-off on {panel.place.title}")


def _time_scale(panel: TradeoffPanel) -> Scale:
    ends = [point.speed for point in panel.points] + [
        end for point in panel.points for end in point.speed_ci95 or () if end > 0
    ]
    if max(ends) / min(ends) >= _LOG_FROM:
        return Scale(low=min(ends) / 1.3, high=max(ends) * 1.3, start=_LEFT, end=_RIGHT, log=True)
    low, high = padded(ends, share=0.16)
    return Scale(low=max(0.0, low), high=high, start=_LEFT, end=_RIGHT)


def _side_scale(panel: TradeoffPanel) -> Scale:
    if not panel.with_accuracy:
        low, high = padded([point.size_bytes for point in panel.points], share=0.16)
        return Scale(low=max(0.0, low), high=high, start=_BOTTOM, end=_TOP)
    ends = [end for point in panel.points for end in (*(point.accuracy_ci95 or ()), _height(point, panel))]
    low, high = padded(ends, share=0.1)
    return Scale(low=low, high=min(high, 1.0) if max(ends) < 1.0 else high, start=_BOTTOM, end=_TOP)


def _height(point: Point, panel: TradeoffPanel) -> float:
    return point.accuracy if panel.with_accuracy and point.accuracy is not None else point.size_bytes


def _point(point: Point, x: Scale, y: Scale, panel: TradeoffPanel, style: Style, largest: float) -> Markup:
    at_x, at_y = x(point.speed), y(_height(point, panel))
    radius = _radius(point, panel, largest)
    fill = "front" if point.on_front else "beaten"
    parts = []
    if point.accuracy_ci95 is not None and panel.with_accuracy:
        parts.append(line(at_x, y(point.accuracy_ci95[0]), at_x, y(point.accuracy_ci95[1]), f"{style.colour} whisker"))
    if point.speed_ci95 is not None:
        low, high = (min(max(end, x.low), x.high) for end in point.speed_ci95)
        parts.append(line(x(low), at_y, x(high), at_y, f"{style.colour} whisker"))
    more = {"data_tip": _tip(point, panel, style), "data_row": point.row, "data_front": str(point.on_front).lower()}
    parts.append(marker(style.shape, at_x, at_y, radius, f"{style.colour} {fill}", **more))
    return join(parts)


def _radius(point: Point, panel: TradeoffPanel, largest: float) -> float:
    """Area stands for size, where size has no axis of its own."""
    return max(_SMALLEST, _LARGEST * math.sqrt(point.size_bytes / largest)) if panel.with_accuracy else 6.0


def _names(
    points: Sequence[Point], x: Scale, y: Scale, panel: TradeoffPanel, styles: dict[str, Style], largest: float
) -> list[Markup]:
    marks = [
        Mark(
            x=x(point.speed),
            y=y(_height(point, panel)),
            radius=_radius(point, panel, largest),
            name=styles[point.row].short_name,
        )
        for point in points
    ]
    places = placed(marks, within=Box(left=_LEFT, top=_TOP - 12, right=_RIGHT + 10, bottom=_BOTTOM))
    return [
        text(place[0], place[1], mark.name, anchor=place[2], class_="label halo")
        for mark, place in zip(marks, places, strict=True)
        if place is not None
    ]


def _tip(point: Point, panel: TradeoffPanel, style: Style) -> str:
    told = [
        style.name,
        f"{MIDDLE[panel.place.kind]} {number(point.speed, panel.unit if panel.unit == 'ms' else '')}",
        size(point.size_bytes),
    ]
    if point.accuracy is not None:
        told.append(f"accuracy {number(point.accuracy, 'share')}")
    if point.accuracy_ci95 is not None:
        told.append(f"({interval(*point.accuracy_ci95, 'share')})")
    told.append("on the Pareto front" if point.on_front else "another model is at least as good in all three")
    return ", ".join(told)
