"""The frame of a figure: grid lines, ticks at round numbers, and what the axis counts."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from edgepack.report.draw.svg import Scale, join, line, text

_NAME_ROOM = 14


def value_axis(scale: Scale, *, top: float, bottom: float, title: str, factor: float = 1.0, count: int = 5) -> Markup:
    """A horizontal axis at `bottom` with grid lines up to `top`; ticks are written as value × factor."""
    ticks = scale.ticks(count)
    parts = [line(scale.start, bottom, scale.end, bottom, "axis-line")]
    for value, label in zip(ticks, labels(ticks, factor), strict=True):
        parts.append(line(scale(value), top, scale(value), bottom, "grid"))
        parts.append(text(scale(value), bottom + 15, label, anchor="middle"))
    name = f"{title}{' (logarithmic)' if scale.log else ''}"
    parts.append(
        text((scale.start + scale.end) / 2, bottom + 15 + _NAME_ROOM + 3, name, anchor="middle", class_="name")
    )
    return join(parts)


def side_axis(scale: Scale, *, left: float, right: float, title: str, factor: float = 1.0, count: int = 4) -> Markup:
    """A vertical axis at `left`; its name stands above it, level, so that it can be read."""
    ticks = scale.ticks(count)
    parts = []
    for value, label in zip(ticks, labels(ticks, factor), strict=True):
        parts.append(line(left, scale(value), right, scale(value), "grid"))
        parts.append(text(left - 6, scale(value) + 4, label, anchor="end"))
    parts.append(text(2, scale.end - 10, title, class_="name"))
    return join(parts)


def labels(ticks: Sequence[float], factor: float = 1.0) -> list[str]:
    """Ticks with as many decimals as tell them apart.

    >>> labels([0.5, 1.0, 1.25])
    ['0.5', '1', '1.25']
    """
    return [_label(value * factor) for value in ticks]


def _label(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e7:
        return f"{value:.3g}"
    return f"{value:,.6g}".replace(",", "\u202f").replace("-", "−") if abs(value) < 1e6 else f"{value / 1e6:.6g}\u202fM"
