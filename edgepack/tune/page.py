"""The search as one HTML page that needs no network, and its trials as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup

import edgepack.report
from edgepack import __version__
from edgepack.core.files import write_atomic
from edgepack.report.draw.axes import side_axis, value_axis
from edgepack.report.draw.svg import WIDTH, Scale, join, line, marker, padded, path, picture, tag
from edgepack.report.text import size
from edgepack.tune.budget import limits_of
from edgepack.tune.front import LAST, Row
from edgepack.tune.search import Found

HTML, CSV = "tune.html", "pareto.csv"
_TOP, _BOTTOM, _LEFT, _RIGHT = 30.0, 250.0, 52.0, WIDTH - 14.0
_LOG_FROM = 4.0
_CUT_POINTS = 10.0  # how far above the best a loss is still drawn to scale
_COLUMNS = (
    "trial", "on_front", "chosen", "trained_share", "steps", "wire_bytes", "file_bytes", "accuracy", "drop_points", "latency_p50_ms",
    "peak_memory_bytes", "samples", "over_budget",
)  # fmt: skip


def write_pages(found: Found) -> tuple[Path, Path]:
    """Write both files into the search's folder; their paths."""
    html, table = found.folder / HTML, found.folder / CSV
    write_atomic(html, page(found).encode())
    write_atomic(table, csv_of(found).encode())
    return html, table


def csv_of(found: Found) -> str:
    """One line a trial: those of the front first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    chosen = None if found.chosen is None else found.chosen.row.trial.number
    for row in sorted(found.rows, key=lambda row: not row.on_front):
        known = row.numbers
        writer.writerow(
            [
                row.trial.number, int(row.on_front), int(row.trial.number == chosen), round(row.share, 4), row.words, known.wire_bytes,
                known.file_bytes, known.accuracy, known.drop_points, known.latency_p50_ms, known.peak_memory_bytes, known.samples, row.over,
            ]
        )  # fmt: skip
    return out.getvalue()


def page(found: Found) -> str:
    """The page: what was found, the picture of size against loss, every trial."""
    css = (Path(edgepack.report.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    limits = ", ".join(f"{name} {limit:,.12g}" for name, limit in limits_of(found.budget))
    body = join(
        [
            tag("header", tag("h1", "Search for a combination"), tag("p", f"Budget: {limits}.", class_="lead")),
            tag("main", _result(found), _figure_section(found), _trials(found), _failures(found)),
        ]
    )
    head = join(
        [
            Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup('<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'; img-src data:">'),
            Markup('<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'),
            Markup(f'<meta name="generator" content="edgepack {__version__}">'),
            tag("title", "edgepack tune"),
            tag("style", Markup(css)),  # a file of ours
        ]
    )  # fmt: skip
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def figure(found: Found) -> Markup:
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
    return picture(join(parts), height=_BOTTOM + 38, title="Size against points lost")


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


def _result(found: Found) -> Markup:
    if found.chosen is None:
        row, numbers = found.nearest
        over = "; ".join(map(str, found.budget.shortfalls(numbers))) or "a check of its build failed"
        return tag("section", tag("h2", "The budget was not met"), tag("p", f"Nearest: {row.words}: {over}."))
    final = found.chosen.final
    told = (
        f"{found.chosen.row.words}: {size(final.wire_bytes)} packed ({size(final.file_bytes)} as a file), {final.drop_points:+.2f} points lost on "
        f"{final.samples:,} evaluation samples. The original has {size(found.original.wire_bytes)} packed ({size(found.original.file_bytes)})."
    )
    looks = f"Combinations judged on the evaluation samples: {len(found.refused) + 1}."
    return tag("section", tag("h2", "Recommended"), tag("p", told), tag("p", looks, class_="note"))


def _figure_section(found: Found) -> Markup:
    note = (
        "Each mark is a trial, judged on samples that neither trained it nor judge the result. Filled: on the Pareto front. Small: trained for a part of the time only. "
        "The square is the recommended one. Dotted lines are the budget; losses far above it are drawn at the upper edge."
    )
    return tag("section", tag("h2", "Size against loss"), figure(found), tag("p", note, class_="note after"))


def _trials(found: Found) -> Markup:
    timed = found.budget.latency_p50_ms is not None
    heads = [
        "trial",
        "steps",
        "trained",
        "packed",
        "file",
        "points lost",
        *(["p50, ms"] if timed else []),
        "front",
        "over the budget",
    ]
    rows = [
        [
            str(row.trial.number), row.words, f"{row.share:.0%}", size(row.numbers.wire_bytes), size(row.numbers.file_bytes), f"{row.numbers.drop_points:+.2f}",
            *([f"{row.numbers.latency_p50_ms:.4g}"] if timed and row.numbers.latency_p50_ms is not None else []), "✓" if row.on_front else "", row.over,
        ]
        for row in found.rows
    ]  # fmt: skip
    return tag("section", tag("h2", "Trials"), _table(heads, rows))


def _failures(found: Found) -> Markup:
    if not found.failed:
        return Markup()
    return tag("section", tag("h2", "Could not be made"), _table(["steps", "why"], found.failed))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    body = join(tag("tr", join(tag("td", cell) for cell in row)) for row in rows)
    head = tag("thead", tag("tr", join(tag("th", name) for name in heads)))
    return tag("div", tag("table", head, tag("tbody", body)), class_="scroll")
