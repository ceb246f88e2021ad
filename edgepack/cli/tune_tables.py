"""What `edgepack tune` draws: a live table of trials, and the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.live import Live as RichLive
from rich.markup import escape
from rich.table import Table

from edgepack.cli.progress import Lines
from edgepack.cli.tables import plain_table
from edgepack.cli.terminal import console_on, draw, progress_stream, shown
from edgepack.cli.words import digits, duration, size
from edgepack.core.types import Progress, Silent
from edgepack.tune.alone import compared
from edgepack.tune.budget import limits_of
from edgepack.tune.plot import text_plot

if TYPE_CHECKING:
    from edgepack.tune import Found, Numbers
    from edgepack.tune.front import Row

_ROWS_MAX = 14


class Live:
    """Draws the trials while they run. It is a Progress, too: what is done now stands below the table."""

    def __init__(self, inner: Progress, live: RichLive | None) -> None:
        self._inner, self._live = inner, live
        self._rows: tuple[Row, ...] = ()
        self._told: set[tuple[int, int]] = set()
        self._doing: list[str] = []
        self._at = 0

    @classmethod
    @contextmanager
    def shown(cls, *, quiet: bool) -> Iterator[Live]:
        """A live table on a terminal, a line for each result elsewhere, nothing when `quiet`."""
        if quiet:
            yield cls(Silent(), None)
            return
        with progress_stream() as stream:
            if not stream.isatty():
                yield cls(Lines(stream), None)
                return
            table = RichLive(
                console=console_on(stream),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                auto_refresh=False,
            )
            with table:
                yield cls(Silent(), table)

    def start(self, what: str, *, total: int | None = None) -> None:
        """A step begins."""
        self._doing.append(what if total is None else f"{what} ({total:,})")
        self._at = 0
        self._refresh()

    def advance(self, units: int = 1, *, note: str = "") -> None:
        """The step goes on."""
        self._at += units
        if self._at % 16 < units:
            self._refresh()

    def done(self, note: str = "") -> None:
        """The step has ended."""
        if self._doing:
            self._doing.pop()

    def note(self, text: str) -> None:
        """A line worth keeping."""
        self._inner.note(text)

    def watch(self, rows: tuple[Row, ...]) -> None:
        """Draw the trials; without a terminal, a line for each new result."""
        self._rows = rows
        for row in rows:
            if (key := (row.trial.number, row.trial.rung)) not in self._told:
                self._told.add(key)
                self._inner.note(_line(row))
        self._refresh()

    def _refresh(self) -> None:
        if self._live is not None:
            table = trials_table(self._rows[:_ROWS_MAX], title=f"{len(self._rows)} trials")
            doing = self._doing[-1] if self._doing else ""
            table.caption = f"{doing} {self._at or ''}".strip()
            self._live.update(table, refresh=True)


def trials_table(rows: Sequence[Row], *, title: str) -> Table:
    """Trials with their numbers, best first."""
    timed = any(row.numbers.latency_p50_ms is not None for row in rows)
    columns = {
        "trial": "right",
        "steps": "left",
        "trained": "right",
        "packed": "right",
        "file": "right",
        "points lost": "right",
    }
    columns |= {"p50 ms": "right"} if timed else {}
    cells = [
        [
            f"{row.trial.number}{' ●' if row.on_front else ''}",
            escape(row.words),
            f"{row.share:.0%}",
            size(row.numbers.wire_bytes),
            size(row.numbers.file_bytes),
            f"{row.numbers.drop_points:+.2f}",
            *([digits(row.numbers.latency_p50_ms or 0)] if timed else []),
            "[green]✓[/]" if row.keeps_budget else "",
        ]
        for row in rows
    ]
    return plain_table(title, {**columns, "in budget": "left"}, cells)


def compared_table(found: Found) -> Table:
    """The best of each method alone beside the best combination, at the budget's size."""
    columns = {
        "": "left",
        "steps": "left",
        "trained": "right",
        "packed": "right",
        "points lost": "right",
        "fits": "left",
    }
    cells = [
        [
            best.of,
            escape(best.row.words),
            f"{best.row.share:.0%}",
            size(best.row.numbers.wire_bytes),
            f"{best.row.numbers.drop_points:+.2f}",
            "[green]✓[/]" if best.fits else "nearest",
        ]
        for best in compared(found.rows, found.budget)
    ]
    return plain_table("One method alone against the best combination", columns, cells)


def show(found: Found, pages: tuple[Path, ...], seconds: float, *, quiet: bool) -> None:
    """Print the front, the picture, and what was chosen; when `quiet`, the bundle's path only."""
    chosen = found.chosen
    if not quiet:
        front = [row for row in found.rows if row.on_front]
        draw(trials_table(front, title="Pareto front"), escape(text_plot(found)), compared_table(found))
        limits = ", ".join(f"{name} {limit:,.12g}" for name, limit in limits_of(found.budget))
        notes = [
            f"Budget: {limits}.",
            f"{len(found.rows)} trials, {len(found.failed)} that could not be made, {found.unfinished} unfinished, {duration(seconds)}",
        ]
        if chosen is not None:
            notes.insert(
                1, f"Chosen: {chosen.row.words}: {_told(chosen.final)} on {chosen.final.samples:,} evaluation samples."
            )
            notes.insert(2, f"The original: {_told(found.original)}.")
        notes += [f"refused: {row.words}: {why}" for row, _, why in found.refused]
        draw(*map(escape, notes), *(shown(page) for page in pages))
    if chosen is not None:
        draw(*([] if quiet else [shown(chosen.recipe_file)]), shown(chosen.bundle))


def content(found: Found, pages: tuple[Path, ...], seconds: float) -> dict[str, Any]:
    """The same for a program."""
    chosen = found.chosen
    nearest, numbers = found.nearest
    return {
        "budget": asdict(found.budget),
        "met": chosen is not None,
        "original": found.original.as_dict(),
        "chosen": None
        if chosen is None
        else {
            **_row(chosen.row),
            "final": chosen.final.as_dict(),
            "recipe": str(chosen.recipe_file),
            "bundle": str(chosen.bundle),
        },
        "nearest": {**_row(nearest), "judged": numbers.as_dict()},
        "compared": [
            {"of": best.of, "fits": best.fits, **_row(best.row)} for best in compared(found.rows, found.budget)
        ],
        "trials": [_row(row) for row in found.rows],
        "failed": [{"steps": steps, "why": why} for steps, why in found.failed],
        "refused": [{**_row(row), "judged": judged.as_dict(), "why": why} for row, judged, why in found.refused],
        "html": str(pages[0]),
        "csv": str(pages[1]),
        "svg": str(pages[2]),
        "seconds": seconds,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "trial": row.trial.number,
        "steps": [{"method": step.method, **step.options()} for step in row.trial.steps],
        "trained_share": row.share,
        "selection": row.numbers.as_dict(),
        "over_budget": row.over,
        "on_front": row.on_front,
    }


def _told(numbers: Numbers) -> str:
    timed = "" if numbers.latency_p50_ms is None else f", {digits(numbers.latency_p50_ms)} ms"
    return f"{size(numbers.wire_bytes)} packed ({size(numbers.file_bytes)} as a file), {numbers.drop_points:+.2f} points lost{timed}"


def _line(row: Row) -> str:
    return f"trial {row.trial.number}, trained {row.share:.0%}: {row.words}: {_told(row.numbers)}{'' if row.keeps_budget else ' (over budget)'}"
