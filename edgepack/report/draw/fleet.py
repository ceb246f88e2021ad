"""Devices in the order of a metric: one mark a device, a line a model."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from edgepack.report.draw.axes import side_axis, value_axis
from edgepack.report.draw.style import Style
from edgepack.report.draw.svg import WIDTH, Scale, join, marker, padded, picture
from edgepack.report.fleet import FleetLine, FleetPanel
from edgepack.report.rows import Row
from edgepack.report.text import number

_TOP, _BOTTOM, _LEFT, _RIGHT = 30.0, 200.0, 56.0, WIDTH - 14.0
_LOG_FROM = 8.0
_SHOWN = {"bytes": ("MB", 1e-6), "share": ("%", 100.0), "ms of an emulator": ("ms of an emulator", 1.0)}


def fleet_figure(panel: FleetPanel, name: str, row_of: Callable[[str], Row], styles: dict[str, Style]) -> Markup:
    """One metric over all devices of a kind."""
    values = [value for one in panel.lines for value in one.values]
    log = min(values) > 0 and max(values) / min(values) >= _LOG_FROM
    low, high = (min(values) / 1.2, max(values) * 1.2) if log else padded(values)
    y = Scale(low=low if log else max(0.0, low), high=high, start=_BOTTOM, end=_TOP, log=log)
    most = max(len(one.values) for one in panel.lines)
    x = Scale(low=0.0, high=most + 1.0, start=_LEFT, end=_RIGHT)
    unit, factor = _SHOWN.get(panel.unit, (panel.unit, 1.0))
    parts = [
        value_axis(x, top=_TOP, bottom=_BOTTOM, title="devices, in the order of their value"),
        side_axis(y, left=_LEFT, right=_RIGHT, title=f"{name}, {unit}{' (logarithmic)' if log else ''}", factor=factor),
    ]
    parts += [_line(one, panel, x, y, row_of, styles) for one in panel.lines]
    return picture(join(parts), height=_BOTTOM + 38, title=f"{name} over devices")


def _line(
    one: FleetLine, panel: FleetPanel, x: Scale, y: Scale, row_of: Callable[[str], Row], styles: dict[str, Style]
) -> Markup:
    style = styles[one.rows[0]]
    return join(
        marker(
            style.shape,
            x(place + 1),
            y(value),
            2.2,
            f"{style.colour} dot",
            data_tip=f"{row_of(identity).device.name}, {style.name}: {number(value, panel.unit)}",
        )
        for place, (identity, value) in enumerate(zip(one.rows, one.values, strict=True))
    )
