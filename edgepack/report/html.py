"""The page: figures drawn, put into the template, with style and script inside; nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edgepack import __version__
from edgepack.records import RunRecord, RunSummary
from edgepack.report import text
from edgepack.report.definitions import DEFINITIONS
from edgepack.report.draw.fleet import fleet_figure
from edgepack.report.draw.lanes import lanes_figure
from edgepack.report.draw.lines import history_figure, memory_figure, trace_figure
from edgepack.report.draw.scatter import scatter_figure
from edgepack.report.draw.style import Style, Styles, shared_title
from edgepack.report.figures import Figures, figures_of
from edgepack.report.groups import KINDS
from edgepack.report.material import Given
from edgepack.report.memory import STAGES
from edgepack.report.panels import NOTE
from edgepack.report.rows import Row, title_of
from edgepack.report.state import PHASES
from edgepack.stats import Interval

TEMPLATES = Path(__file__).resolve().parent / "templates"
_SECTION_OF_KIND = {
    "device": "Measured on devices",
    "emulated": "Emulated time",
    "instructions": "Guest instructions",
}
_OPTIONAL = ("energy_mj", "latency_p99_ms", "load_ms", "first_ms", "accuracy")


def html_report(
    runs: Iterable[RunSummary],
    *,
    details: Iterable[RunRecord],
    history: Iterable[RunSummary] = (),
    by_bench: bool = False,
    title: str = "Benchmark report",
) -> str:
    """The report of runs as one HTML file. `details` are whole records, read once; `history` are runs of any bench to draw over time; `by_bench` sets benches side by side."""
    return page_of(figures_of(Given(runs=runs, whole=details, others=history, by_bench=by_bench)), title=title)


def page_of(figures: Figures, *, title: str = "Benchmark report") -> str:
    """The page of figures that are computed."""
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    styles = Styles([*figures.rows.rows, *figures.rows.profiled])
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            version=__version__,
            figures=figures,
            rows=figures.rows.rows,
            shared_title=shared_title(figures.rows.rows),
            style=styles.of,
            kinds=[(kind, _SECTION_OF_KIND[kind], rows) for kind in KINDS if (rows := _of_kind(figures, kind))],
            columns_of=columns_of,
            used={name for kind in KINDS if (rows := _of_kind(figures, kind)) for name in columns_of(rows)},
            how_rows=[figures.row(identity) for identity in figures.drawn],
            how_by_row={one.row: one for one in figures.how},
            definitions=DEFINITIONS,
            pictures=_pictures(figures, styles),
            payload=figures.as_dict(),
            css=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # a file of ours
            script=Markup(script),  # a file of ours
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def columns_of(rows: list[Row]) -> list[str]:
    """The metrics of a table: those of the rows' kind, optional ones only where a row has them."""
    found = []
    for name in DEFINITIONS:
        has_any = any(row.numbers[name].value is not None for row in rows)
        if has_any or (name in _OPTIONAL and name != "energy_mj" and rows[0].kind == "device"):
            found.append(name)
    return found


def _of_kind(figures: Figures, kind: str) -> list[Row]:
    return [row for row in figures.rows.rows if row.kind == kind]


def _pictures(figures: Figures, styles: Styles) -> dict[str, Any]:
    """Every figure with what stands around it."""
    by_id = {row.id: styles.of(row) for row in (*figures.rows.rows, *figures.rows.profiled)}
    history = []
    for panel in figures.history.panels:
        if panel.is_flat:
            continue
        chosen = [_style_of_line(one.bundle, one.label, figures, styles) for one in panel.lines]
        history.append((panel, history_figure(panel, chosen), chosen))
    return {
        "fleets": [
            (panel, fleet_figure(panel, DEFINITIONS[panel.metric].head, figures.row, by_id)) for panel in figures.fleets
        ],
        "distributions": [(panel, lanes_figure(panel, by_id)) for panel in figures.distributions],
        "tradeoffs": [(panel, scatter_figure(panel, by_id)) for panel in figures.tradeoffs],
        "memories": [(panel, memory_figure(panel, by_id)) for panel in figures.memories],
        "history": history,
        "states": [
            (panel, [trace_figure(trace, panel.place.title) for trace in panel.traces]) for panel in figures.states
        ],
    }


def _style_of_line(bundle: str | None, label: str, figures: Figures, styles: Styles) -> Style:
    """The colour of the row that the line belongs to; the line's name is without a version."""
    name = label if shared_title(figures.rows.rows) else " ".join(part for part in (bundle, label) if part)
    for row in figures.rows.rows:
        if (row.subject.bundle, row.subject.label) == (bundle, label):
            return Style(name=name, colour=styles.of(row).colour, shape=styles.of(row).shape)
    return Style(name=name, colour="c5", shape=5)


def _interval(ends: Interval, unit: str) -> str:
    low, high = ends
    return text.interval(low, high, unit)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": text.number,
        "interval": _interval,
        "when": text.when,
        "short": text.short,
        "plural": text.plural,
        "digits": text.digits,
        "size": text.size,
        "title_of": title_of,
        "span": text.span,
        "tail": text.tail,
    }
    environment.globals |= {"NOTE": NOTE, "PHASES": PHASES, "STAGES": STAGES}
    return environment
