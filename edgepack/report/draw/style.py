"""Which colour and shape stands for which model, the same in every figure of a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from edgepack.report.draw.svg import marker, tag
from edgepack.report.rows import Row, title_of

COLOURS = 6
_SHORT = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A series: its name in legends, its colour (a class) and its shape."""

    name: str
    colour: str
    shape: int

    @property
    def short_name(self) -> str:
        """As much of the name as fits beside a mark."""
        return self.name if len(self.name) <= _SHORT else f"{self.name[: _SHORT - 1]}…"

    @property
    def swatch(self) -> Markup:
        """The sign beside the name in a legend."""
        return tag(
            "svg",
            marker(self.shape, 7, 7, 4.5, f"{self.colour} mark"),
            viewBox="0 0 14 14",
            class_="swatch",
            aria_hidden="true",
        )


class Styles:
    """A style for each row: rows of the same model on several devices share one."""

    def __init__(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        shared = shared_title(rows)
        names = {row.id: _names(row, without=shared) for row in rows}
        # The shortest name that tells all models of the page apart.
        different = {whole for _, whole in names.values()}
        by_title = {title: {whole for t, whole in names.values() if t == title} for title, _ in names.values()}
        order = {whole: number for number, whole in enumerate(sorted(different))}
        self._of = {}
        for identity, (title, whole) in names.items():
            number = order[whole]
            name = title if len(by_title[title]) == 1 else whole
            # After all colours the shapes shift by one, so that no pair of both comes twice.
            shape = (number + number // COLOURS) % COLOURS
            self._of[identity] = Style(name=name, colour=f"c{number % COLOURS}", shape=shape)

    def of(self, row: Row) -> Style:
        """The style of a row."""
        return self._of[row.id]


def shared_title(rows: Iterable[Row]) -> str:
    """The bundle and version that all rows share, '' where they differ: the page says it once."""
    titles = {" ".join(part for part in (row.subject.bundle, row.subject.version) if part) for row in rows}
    return titles.pop() if len(titles) == 1 else ""


def _names(row: Row, *, without: str) -> tuple[str, str]:
    """A row's title, and the title with all that can tell it from a row of the same title."""
    subject = row.subject
    runtime = f"{subject.runtime} {row.environment.runtime_version}"
    title = title_of(subject).removeprefix(without).strip()
    parts = [title, subject.target or "", runtime, f"{row.conditions.threads}T", subject.model_sha256[:8]]
    if row.bench is not None:
        parts.append(f"bench {row.bench[:8]}")
    return title, " · ".join(part for part in parts if part)
