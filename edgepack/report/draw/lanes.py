"""Distributions: one lane a row, the samples' histogram above, the runs' medians below in the order they ran."""

from __future__ import annotations

from markupsafe import Markup

from edgepack.report.distribution import DistributionPanel, Lane
from edgepack.report.draw.axes import value_axis
from edgepack.report.draw.style import Style
from edgepack.report.draw.svg import WIDTH, Scale, join, line, marker, path, picture, tag, text
from edgepack.report.text import digits

_LEFT, _RIGHT = 10.0, WIDTH - 10.0
_HEAD, _HILL, _DOTS, _GAP = 22.0, 44.0, 20.0, 12.0
_LANE = _HEAD + _HILL + _DOTS + _GAP


def lanes_figure(panel: DistributionPanel, styles: dict[str, Style]) -> Markup:
    """One device's distributions on one axis."""
    bottom = _LANE * len(panel.lanes) + 4
    # In per cent of the p50, so that ticks are round.
    scale = Scale(low=100 * panel.edges[0] - 100, high=100 * panel.edges[-1] - 100, start=_LEFT, end=_RIGHT)
    noun = {"ms": "longer than the row's p50, %", "instructions": "more than the row's median, %"}[panel.unit]
    parts = [value_axis(scale, top=4, bottom=bottom, title=noun)]
    for number, lane in enumerate(panel.lanes):
        parts.append(_lane(lane, scale, panel, styles[lane.row], top=number * _LANE))
    return picture(join(parts), height=bottom + 38, title=f"Distribution of samples on {panel.place.title}")


def _lane(lane: Lane, scale: Scale, panel: DistributionPanel, style: Style, *, top: float) -> Markup:
    base = top + _HEAD + _HILL
    label = text(_LEFT, top + 15, style.short_name, class_="label halo")
    value = text(_RIGHT, top + 15, _told(lane, panel), anchor="end", class_="label halo")
    beyond = f"{digits(100 * lane.beyond, 2)} % →" if lane.beyond else ""
    tip = f"{digits(100 * lane.beyond, 2)} % of the samples lie beyond the axis, up to {digits(lane.largest)} {panel.unit}"
    return tag(
        "g",
        label,
        value,
        _hill(lane, scale, panel, style, base),
        _ranks(lane, scale, base),
        _medians(lane, scale, style, base),
        tag("text", beyond, x=_RIGHT, y=base - 6, text_anchor="end", class_="axis halo", data_tip=tip)
        if beyond
        else "",
        data_row=lane.row,
        data_p50=lane.p50,
    )


def _told(lane: Lane, panel: DistributionPanel) -> str:
    if panel.unit != "ms":
        return f"median {digits(lane.p50, 4)}"
    ranks = [("p50", lane.p50), ("p90", lane.p90), ("p99", lane.p99)]
    told = " · ".join(f"{name} {digits(value)}" for name, value in ranks if value is not None)
    return f"{'emulated ' if panel.place.kind == 'emulated' else ''}{told} ms"


def _place(value: float, lane: Lane, scale: Scale) -> float:
    """Where a time of this lane stands."""
    return scale(100 * value / lane.p50 - 100)


def _hill(lane: Lane, scale: Scale, panel: DistributionPanel, style: Style, base: float) -> Markup:
    """Bars of equal width on the axis, the tallest as high as the lane."""
    tallest = max(lane.shares) or 1.0
    edges = [scale(100 * edge - 100) for edge in panel.edges]
    points = [(edges[0], base)]
    for share, left, right in zip(lane.shares, edges, edges[1:], strict=False):
        y = base - _HILL * share / tallest
        points += [(left, y), (right, y)]
    points.append((edges[-1], base))
    kept = [point for number, point in enumerate(points) if not _is_flat(points, number)]
    return path(kept, f"{style.colour} hill", closed=True)


def _is_flat(points: list[tuple[float, float]], number: int) -> bool:
    """Whether a point lies on a level line between its neighbours."""
    return 0 < number < len(points) - 1 and points[number - 1][1] == points[number][1] == points[number + 1][1]


def _ranks(lane: Lane, scale: Scale, base: float) -> Markup:
    ranks = (("p50", lane.p50), ("p90", lane.p90), ("p99", lane.p99))
    return join(
        line(at, base - _HILL, at, base, f"rank {name}", data_tip=f"{name} {digits(value, 4)}")
        for name, value in ranks
        if value is not None and _LEFT <= (at := _place(value, lane, scale)) <= _RIGHT
    )


def _medians(lane: Lane, scale: Scale, style: Style, base: float) -> Markup:
    step = (_DOTS - 8) / max(1, len(lane.medians) - 1)
    return join(
        marker(
            style.shape,
            _place(value, lane, scale),
            base + 6 + number * step,
            2.6,
            f"{style.colour} dot",
            data_tip=f"run {number + 1} of {len(lane.medians)}: median {digits(value, 4)}",
            data_value=value,
        )
        for number, value in enumerate(lane.medians)
    )
