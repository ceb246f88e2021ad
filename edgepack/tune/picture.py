"""Size against loss as a picture: in the search's page, and as a file of its own for a README."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

import edgepack.report
from edgepack.report.draw.axes import side_axis, value_axis
from edgepack.report.draw.svg import WIDTH, Scale, join, line, marker, padded, path, picture, tag, text
from edgepack.report.text import size
from edgepack.tune.front import LAST, Row
from edgepack.tune.search import Found

_TOP, _BOTTOM, _LEFT, _RIGHT = 30.0, 250.0, 52.0, WIDTH - 14.0
_HEIGHT = _BOTTOM + 38
_LOG_FROM = 4.0
_CUT_POINTS = 10.0  # how far above the best a loss is still drawn to scale
_KEY_HEIGHT, _MARGIN = 34.0, 10.0
_STYLES = (":root", "@media (prefers-color-scheme", "  --", "  }", "}", "svg text", ".grid", ".axis-line", ".c0", ".mark", ".front", ".beaten", ".hollow", ".line", ".change")  # fmt: skip


def figure(found: Found) -> Markup:
    """The picture for a page."""
    return picture(_plot(found), height=_HEIGHT, title="Size against points lost")


def _plot(found: Found) -> Markup:
    """Bytes against points lost: fully trained combinations by large marks, filled on the front; the others small."""
    sizes = [float(found.budget.size(row.numbers)) for row in found.rows]
    limit = found.budget.size_bytes
    ends = [*sizes, *([float(limit)] if limit else [])]
    x = _scale(ends)
    drops = [row.numbers.drop_points for row in found.rows]
    cut = min(drops) + max(_CUT_POINTS, 3 * (found.budget.drop_points or 0.0))
    shown = [min(drop, cut) for drop in drops]
    low, high = padded([*shown, found.budget.drop_points or 0.0, 0.0], share=0.1)
    y = Scale(low=low, high=high, start=_BOTTOM, end=_TOP)
    what = "model packed for the wire, kB" if found.budget.size_of == "wire" else "model file, kB"
    parts = [
        value_axis(x, top=_TOP, bottom=_BOTTOM, title=what, factor=1e-3),
        side_axis(y, left=_LEFT, right=_RIGHT, title="points lost", factor=1.0),
    ]
    if limit:
        parts.append(line(x(limit), _TOP, x(limit), _BOTTOM, "change"))
    if found.budget.drop_points is not None:
        at = y(found.budget.drop_points)
        parts.append(line(_LEFT, at, _RIGHT, at, "change"))
    front = sorted(
        (x(found.budget.size(row.numbers)), y(min(row.numbers.drop_points, cut))) for row in found.rows if row.on_front
    )
    if len(front) > 1 and found.budget.latency_p50_ms is None:
        parts.append(path(front, "c0 line thin"))
    parts += [_mark(found, row, x, y, cut) for row in reversed(found.rows)]
    return join(parts)


def _mark(found: Found, row: Row, x: Scale, y: Scale, cut: float) -> Markup:
    chosen = found.chosen is not None and found.chosen.row.trial.number == row.trial.number
    full = row.trial.rung == LAST
    at = x(float(found.budget.size(row.numbers))), y(min(row.numbers.drop_points, cut))
    look = "c1 front" if chosen else "c0 front" if row.on_front else "c0 beaten" if full else "c0 hollow"
    return marker(3 if chosen else 0, *at, 6.5 if chosen else 4.5 if full else 2.5, look, data_tip=_tip(row))


def _scale(values: list[float]) -> Scale:
    if max(values) / min(values) >= _LOG_FROM:
        return Scale(low=min(values) / 1.2, high=max(values) * 1.2, start=_LEFT, end=_RIGHT, log=True)
    low, high = padded(values, share=0.1)
    return Scale(low=max(0.0, low), high=high, start=_LEFT, end=_RIGHT)


def _tip(row: Row) -> str:
    return f"trial {row.trial.number}: {row.words}; {size(row.numbers.wire_bytes)} packed, {row.numbers.drop_points:+.2f} points lost"


def alone_standing(found: Found) -> str:
    """The picture as an SVG file, with a key below it; light or dark as the reader's screen is."""
    height = _HEIGHT + _KEY_HEIGHT
    box = f"{-_MARGIN:g} {-_MARGIN:g} {WIDTH + 2 * _MARGIN:g} {height + 2 * _MARGIN:g}"
    paper = tag("rect", x=-_MARGIN, y=-_MARGIN, width="100%", height="100%", rx=8, style="fill: var(--paper)")
    body = join([tag("title", "Size against points lost"), tag("style", _style()), paper, _plot(found), _key(found)])
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="640" role="img">{body}</svg>\n'


def _style() -> Markup:
    """What the picture needs of the reports' style."""
    lines = (Path(edgepack.report.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8").splitlines()
    before_page = lines.index("* { box-sizing: border-box; }")
    kept = lines[:before_page] + [one for one in lines[before_page:] if one.startswith(_STYLES) and one != "}"]
    return Markup("\n".join(kept))  # a file of ours


def _key(found: Found) -> Markup:
    """What the marks mean."""
    meanings = [
        ("c0 front", 0, 4.5, "Pareto front"),
        ("c0 beaten", 0, 4.5, "beaten"),
        ("c0 hollow", 0, 2.5, "trained in part"),
    ]
    meanings += [("c1 front", 3, 6.5, "recommended")] if found.chosen is not None else []
    parts, x = [], 10.0
    for look, shape, radius, words in meanings:
        parts += [marker(shape, x, _HEIGHT + 14, radius, look), text(x + 10, _HEIGHT + 18, words)]
        x += 26 + 5.6 * len(words)
    return join(parts)
