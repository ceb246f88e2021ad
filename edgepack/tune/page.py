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
from edgepack.report.draw.svg import join, tag
from edgepack.report.text import size
from edgepack.tune.alone import compared
from edgepack.tune.budget import limits_of
from edgepack.tune.front import Row
from edgepack.tune.picture import alone_standing, figure
from edgepack.tune.search import Found
from edgepack.tune.space import methods_in

HTML, CSV, SVG = "tune.html", "pareto.csv", "pareto.svg"
_COLUMNS = (
    "trial", "on_front", "chosen", "alone", "trained_share", "steps", "wire_bytes", "file_bytes", "accuracy", "drop_points", "latency_p50_ms",
    "peak_memory_bytes", "samples", "over_budget",
)  # fmt: skip


def write_pages(found: Found) -> tuple[Path, Path, Path]:
    """Write the page, the table and the picture into the search's folder; their paths."""
    html, table, image = (found.folder / name for name in (HTML, CSV, SVG))
    write_atomic(html, page(found).encode())
    write_atomic(table, csv_of(found).encode())
    write_atomic(image, alone_standing(found).encode())
    return html, table, image


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
                row.trial.number, int(row.on_front), int(row.trial.number == chosen), _alone(row), round(row.share, 4), row.words, known.wire_bytes,
                known.file_bytes, known.accuracy, known.drop_points, known.latency_p50_ms, known.peak_memory_bytes, known.samples, row.over,
            ]
        )  # fmt: skip
    return out.getvalue()


def _alone(row: Row) -> str:
    """The one method of a trial that has no other beside rounding; '' for a combination."""
    methods = methods_in(row.trial.steps)
    return "quantize" if not methods else next(iter(methods)) if len(methods) == 1 else ""


def page(found: Found) -> str:
    """The page: what was found, the picture of size against loss, methods alone, every trial."""
    css = (Path(edgepack.report.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    limits = ", ".join(f"{name} {limit:,.12g}" for name, limit in limits_of(found.budget))
    body = join(
        [
            tag("header", tag("h1", "Search for a combination"), tag("p", f"Budget: {limits}.", class_="lead")),
            tag("main", _result(found), _figure_section(found), _compared(found), _trials(found), _failures(found)),
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


def _compared(found: Found) -> Markup:
    heads = ["", "steps", "trained", "packed", "file", "points lost", ""]
    rows = [
        [
            best.of, best.row.words, f"{best.row.share:.0%}", size(best.row.numbers.wire_bytes), size(best.row.numbers.file_bytes),
            f"{best.row.numbers.drop_points:+.2f}", "" if best.fits else "doesn't fit: the nearest",
        ]
        for best in compared(found.rows, found.budget)
    ]  # fmt: skip
    note = "The best trial of each kind within the budget's size (and time and memory, where limited), whatever it loses. Those that were trained for a part of the time only might lose less."
    heading = "One method alone against the best combination"
    return tag("section", tag("h2", heading), _table(heads, rows), tag("p", note, class_="note after"))


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
