"""The pictures of an explanation: bars per layer, size against quality, histograms of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgepack.explain.account import Account, LayerAccount
from edgepack.explain.weights import Histogram
from edgepack.report.draw.axes import side_axis, value_axis
from edgepack.report.draw.svg import WIDTH, Scale, join, line, marker, padded, path, picture, tag, text
from edgepack.report.text import digits, size

_LEFT, _RIGHT = 128.0, WIDTH - 8.0
_ROW, _TOP = 15.0, 8.0
_NAME_LENGTH = 20
_SMALL_WIDTH, _SMALL_HEIGHT = 190.0, 84.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A row of a bar chart: a light bar for all and a full one for the part of it that counts."""

    name: str
    whole: float
    part: float
    tip: str


def bytes_figure(account: Account, colour: str) -> Markup:
    """Bytes of each layer in the file, and once coded."""
    bars = [
        Bar(
            name=one.name,
            whole=one.file_bytes,
            part=one.coded_bytes,
            tip=f"{one.name}: {size(one.file_bytes)} in the file, {size(one.coded_bytes)} coded",
        )
        for one in account.layers
    ]
    return bars_figure(bars, colour, title="kB: in the file (light), coded (full)", factor=1e-3, what="Bytes by layer")


def parameters_figure(account: Account, colour: str) -> Markup:
    """Parameters of each layer: the original's where they are known, else today's; and those that aren't 0."""
    bars = []
    for one in account.layers:
        whole = one.parameters if one.original is None else one.original.parameters
        told = (
            f"{one.name}: {whole:,} {'originally' if one.original else 'in the file'}, {one.nonzero_parameters:,} not 0"
        )
        bars.append(Bar(name=one.name, whole=whole, part=one.nonzero_parameters, tip=told))
    light = "original" if any(one.original for one in account.layers) else "in the file"
    title = f"thousands: {light} (light), not 0 (full)"
    return bars_figure(bars, colour, title=title, factor=1e-3, what="Parameters by layer")


def macs_figure(account: Account, colour: str) -> Markup:
    """Multiplications of each layer: the original's where they are known, and today's."""
    bars = []
    for one in account.layers:
        now = one.macs or 0
        before = one.original.macs if one.original is not None and one.original.macs is not None else now
        tip = f"{one.name}: {now:,} MACs" if one.macs is not None else f"{one.name}: {one.unknown['macs']}"
        bars.append(Bar(name=one.name, whole=before, part=now, tip=tip))
    light = ": original (light), now (full)" if any(one.original for one in account.layers) else ""
    return bars_figure(bars, colour, title=f"million MACs{light}", factor=1e-6, what="Multiplications by layer")


def bars_figure(
    bars: Sequence[Bar], colour: str, *, title: str, factor: float, what: str, least: float = 1.0
) -> Markup:
    """A row for each bar; the axis reaches to `least` at least."""
    bottom = _TOP + _ROW * len(bars) + 2
    largest = max([least, *(max(bar.whole, bar.part) for bar in bars)])
    x = Scale(low=0.0, high=largest * 1.02, start=_LEFT, end=_RIGHT)
    parts = [value_axis(x, top=_TOP - 4, bottom=bottom, title=title, factor=factor, count=4)]
    for number, bar in enumerate(bars):
        top = _TOP + _ROW * number
        parts.append(text(_LEFT - 6, top + 11, short(bar.name), anchor="end"))
        for value, height, class_ in ((bar.whole, 10.0, "hill"), (bar.part, 10.0, "dot")):
            width = max(0.5, x(value) - _LEFT) if value else 0.0
            parts.append(tag("rect", x=_LEFT, y=top + 2, width=width, height=height, class_=f"{colour} {class_}"))
        area = tag("rect", x=0.0, y=top, width=_RIGHT, height=_ROW, fill="transparent", data_tip=bar.tip)
        parts.append(area)
    return picture(join(parts), height=bottom + 36, title=what)


def short(name: str) -> str:
    """The end of a long name, which says most."""
    return name if len(name) <= _NAME_LENGTH else f"…{name[1 - _NAME_LENGTH :]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SizePoint:
    """A model in one of its forms: its bytes and its quality."""

    what: str
    size_bytes: float
    share: float


def size_points(account: Account) -> tuple[SizePoint, ...]:
    """The original, the model as a file, and the same coded; what isn't known is left out, and all where the bundle states no quality."""
    quality = account.quality
    if quality is None:
        return ()
    found = [
        SizePoint(what="file", size_bytes=account.model_bytes, share=quality.value),
        SizePoint(what="coded", size_bytes=account.description_bits / 8, share=quality.value),
    ]
    if account.original_bytes is not None and quality.float_value is not None:
        found.insert(0, SizePoint(what="original", size_bytes=account.original_bytes, share=quality.float_value))
    return tuple(found)


def size_figure(accounts: Sequence[Account], colours: Sequence[str], metric: str) -> Markup | None:
    """Quality against bytes on a logarithmic axis: a line for each model from the original (hollow) over its file to what it is coded."""
    top, bottom, left, right = 30.0, 230.0, 52.0, WIDTH - 14.0
    lines = [size_points(one) for one in accounts]
    points = [point for one in lines for point in one]
    if not points:
        return None
    sizes = [point.size_bytes for point in points]
    x = Scale(low=min(sizes) / 1.5, high=max(sizes) * 1.5, start=left, end=right, log=True)
    low, high = padded([point.share for point in points], share=0.2)
    y = Scale(low=low, high=high, start=bottom, end=top)
    parts = [
        value_axis(x, top=top, bottom=bottom, title="kB", factor=1e-3),
        side_axis(y, left=left, right=right, title=f"{metric}, %", factor=100.0),
    ]
    for number, (account, own, colour) in enumerate(zip(accounts, lines, colours, strict=True)):
        places = [(x(one.size_bytes), y(one.share)) for one in own]
        if places:
            parts.append(path(places, f"{colour} line thin"))
        for one, (at_x, at_y) in zip(own, places, strict=True):
            tip = f"{account.title}, {one.what}: {size(one.size_bytes)}, {metric} {100 * one.share:.2f} %"
            radius = 4.0 if one.what == "coded" else 5.5
            class_ = f"{colour} {'hollow' if one.what == 'original' else 'front'}"
            parts.append(marker(number, at_x, at_y, radius, class_, data_tip=tip))
    return picture(join(parts), height=bottom + 38, title="Size against quality")


def histogram_figure(layer: LayerAccount, colour: str) -> Markup | None:
    """A layer's weights now (full) and in the original (line); heights are logarithmic. None for a layer without weights."""
    now = layer.histogram
    if now is None:
        return None
    before = None if layer.original is None else layer.original.histogram
    if before is not None and (before.unit != now.unit):
        before = None
    high = max([now.high, *([before.high] if before else [])])
    counts = [*now.counts, *(before.counts if before else ())]
    x = Scale(low=-high, high=high, start=4.0, end=_SMALL_WIDTH - 4)
    y = Scale(low=0.0, high=math.log1p(max(counts)) or 1.0, start=_SMALL_HEIGHT - 16, end=4.0)
    parts = [
        line(4, y.start, _SMALL_WIDTH - 4, y.start, "axis-line"),
        path(_steps(now, x, y), f"{colour} hill", closed=True),
    ]
    if before is not None:
        parts.append(path(_steps(before, x, y), "c5 line thin"))
    unit = "" if now.unit == "weight" else " (codes)"
    label = f"±{digits(high)}{unit}"
    parts.append(text(_SMALL_WIDTH / 2, _SMALL_HEIGHT - 3, label, anchor="middle"))
    title = f"Weights of {layer.name}"
    box = f"0 0 {_SMALL_WIDTH:g} {_SMALL_HEIGHT:g}"
    return tag("svg", join(parts), viewBox=box, role="img", aria_label=title, class_="figure")


def _steps(histogram: Histogram, x: Scale, y: Scale) -> list[tuple[float, float]]:
    """The outline of the bars."""
    width = (histogram.high - histogram.low) / len(histogram.counts)
    points = [(x(histogram.low), y(0.0))]
    for number, count in enumerate(histogram.counts):
        left = histogram.low + number * width
        points += [(x(left), y(math.log1p(count))), (x(left + width), y(math.log1p(count)))]
    return [*points, (x(histogram.high), y(0.0))]
