"""The pictures of what was asked: sensitivity and share of the loss by layer, and size against quality from step to step."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from edgepack.explain.account import Account, LayerAccount
from edgepack.explain.draw import Bar, bars_figure, short
from edgepack.explain.facts import StepAccount, Steps
from edgepack.report.draw.axes import side_axis, value_axis
from edgepack.report.draw.svg import WIDTH, Scale, join, line, marker, padded, path, picture, tag, text
from edgepack.report.text import digits, size

_LEFT, _RIGHT = 128.0, WIDTH - 8.0
_ROW, _TOP = 15.0, 8.0
_WORTH_A_ROW = 0.001
_LABEL_CHARACTER, _LABEL_HEIGHT = 6.2, 13.0  # about the size of one, at 12 px
_LABELS_ABOVE, _LABELS_BELOW = (-10.0, -24.0), (19.0, 33.0)


def sensitivity_figure(account: Account, colour: str) -> Markup | None:
    """How far the outputs move when one layer alone is rounded; None where it was not measured."""
    if account.losses is None:
        return None
    found = [(one.name, one.loss.sensitivity) for one in account.layers if one.loss is not None]
    largest = max((value for _, value in found if value is not None), default=0.0)
    factor = 1.0 if largest >= 0.1 else 1e3
    bars = [
        Bar(
            name=name,
            whole=0.0,
            part=(value or 0.0) * factor,
            tip=f"{name}: {digits(value)}" if value is not None else f"{name}: not known",
        )
        for name, value in found
    ]
    title = f"{'' if factor == 1 else 'thousandths: '}distance of outputs at {account.losses.bits} bits"
    return bars_figure(bars, colour, title=title, factor=1.0, what="Sensitivity by layer", least=1e-9)


def share_figure(account: Account, colour: str) -> Markup | None:
    """Each layer's share of the distance between the compressed network's outputs and the original's, to both sides of 0; None where it isn't known."""
    rows = [
        (one.name, one.loss.share, _points_tip(one))
        for one in account.layers
        if one.loss is not None and one.loss.share is not None
    ]
    losses = account.losses
    if losses is None or not rows:
        return None
    rows += [("rounded activations", losses.activations_share, "")] if losses.activations_share is not None else []
    rows += (
        [("other parameters", losses.other_share, "")]
        if losses.other_share is not None and abs(losses.other_share) >= _WORTH_A_ROW
        else []
    )
    values = [value or 0.0 for _, value, _ in rows]
    bottom = _TOP + _ROW * len(rows) + 2
    low, high = min(0.0, *values), max(0.01, *values)
    x = Scale(low=low * 1.02, high=high * 1.02, start=_LEFT, end=_RIGHT)
    parts = [value_axis(x, top=_TOP - 4, bottom=bottom, title="% of the outputs' distance", factor=100.0, count=4)]
    for number, (name, value, more) in enumerate(rows):
        top, ends = _TOP + _ROW * number, sorted((x(0.0), x(value or 0.0)))
        parts.append(text(_LEFT - 6, top + 11, short(name), anchor="end"))
        parts.append(
            tag("rect", x=ends[0], y=top + 2, width=max(0.5, ends[1] - ends[0]), height=10.0, class_=f"{colour} dot")
        )
        tip = f"{name}: {100 * (value or 0.0):.1f} % of the distance{more}"
        parts.append(tag("rect", x=0.0, y=top, width=_RIGHT, height=_ROW, fill="transparent", data_tip=tip))
    parts.append(line(x(0.0), _TOP - 4, x(0.0), bottom, "axis-line"))
    return picture(join(parts), height=bottom + 36, title="Share of the loss by layer")


def _points_tip(layer: LayerAccount) -> str:
    if layer.loss is None or layer.loss.points is None:
        return ""
    return f"; alone in the original it costs {layer.loss.points:.2f} points"


def steps_figure(steps: Steps, colour: str) -> Markup:
    """Quality against bytes on the wire on a logarithmic axis, a line from the original through every step."""
    top, bottom, left, right = 30.0, 230.0, 52.0, WIDTH - 14.0
    sizes = [value for one in steps.rows for value in (one.coded_bytes, one.file_bytes)]
    x = Scale(low=min(sizes) / 1.6, high=max(sizes) * 1.6, start=left, end=right, log=True)
    low, high = padded([one.accuracy for one in steps.rows], share=0.25)
    y = Scale(low=low, high=min(high, 1.01), start=bottom, end=top)
    parts = [
        value_axis(x, top=top, bottom=bottom, title="kB", factor=1e-3),
        side_axis(y, left=left, right=right, title=f"{steps.metric}, %", factor=100.0),
    ]
    for one in steps.rows:
        parts.append(
            line(x(one.coded_bytes), y(one.accuracy), x(one.file_bytes), y(one.accuracy), f"{colour} line thin dashed")
        )
        tip = f"{one.step}, file: {size(one.file_bytes)}, {steps.metric} {100 * one.accuracy:.2f} %"
        parts.append(marker(0, x(one.file_bytes), y(one.accuracy), 4.0, f"{colour} hollow", data_tip=tip))
    places = [(x(one.coded_bytes), y(one.accuracy)) for one in steps.rows]
    parts.append(path(places, f"{colour} line"))
    for one, (at_x, at_y) in zip(steps.rows, places, strict=True):
        tip = f"{one.step}, coded: {size(one.coded_bytes)}, {steps.metric} {100 * one.accuracy:.2f} % ({-one.drop_points:+.2f} points)"
        parts.append(marker(0, at_x, at_y, 5.5, f"{colour} front", data_tip=tip))
    parts += _names(steps.rows, places, left, right)
    return picture(join(parts), height=bottom + 38, title="Size against quality from step to step")


def _names(
    rows: Sequence[StepAccount], places: Sequence[tuple[float, float]], left: float, right: float
) -> list[Markup]:
    """The steps' names within the frame, each beside its point where no other name is: above a point higher than its neighbours, else below."""
    found, taken = [], list[tuple[float, float, float]]()
    for number, (one, (at_x, at_y)) in enumerate(zip(rows, places, strict=True)):
        half = _LABEL_CHARACTER * len(one.step) / 2
        middle = min(max(at_x, left + half), right - half)
        beside = [places[other][1] for other in (number - 1, number + 1) if 0 <= other < len(places)]
        is_higher = not beside or at_y <= sum(beside) / len(beside)
        offsets = _LABELS_ABOVE + _LABELS_BELOW if is_higher else _LABELS_BELOW + _LABELS_ABOVE
        free = [
            at_y + offset
            for offset in offsets
            if not any(
                abs(middle - x) < half + width and abs(at_y + offset - y) < _LABEL_HEIGHT for x, y, width in taken
            )
        ]
        level = free[0] if free else at_y + offsets[0]
        taken.append((middle, level, half))
        found.append(text(middle, level, one.step, anchor="middle", class_="label halo"))
    return found
