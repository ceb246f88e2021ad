"""Progress of long work on standard error: bars on a terminal, plain lines elsewhere. Both fit `core.types.Progress`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from edgepack.cli.terminal import console_on, progress_stream
from edgepack.cli.words import duration
from edgepack.core.types import Progress, Silent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


@contextmanager
def shown_progress(*, quiet: bool = False) -> Iterator[Progress]:
    """What draws progress for the block: bars when a person looks, lines when a log is written, nothing when `quiet`."""
    if quiet:
        yield Silent()
        return
    with progress_stream() as stream:
        if not stream.isatty():
            yield Lines(stream)
            return
        bars = Bars(stream)
        with bars.rich:
            yield bars


def finished_line(what: str, seconds: float, note: str) -> str:
    """'✓ Quantization-aware training  41 s  loss 0.011 → 0.004'."""
    return "  ".join(part for part in (f"✓ {what}", duration(seconds), note) if part)


@dataclass(slots=True)
class _Step:
    what: str
    started: float
    task: TaskID | None = None


@dataclass(slots=True)
class Lines:
    """One line when a step starts and one when it ends."""

    stream: TextIO
    _steps: list[_Step] = field(default_factory=list)

    def start(self, what: str, *, total: int | None = None) -> None:
        size = "" if total is None else f" ({total:,})"
        self.note(f"{what}{size} …")
        self._steps.append(_Step(what, time.monotonic()))

    def advance(self, units: int = 1, *, note: str = "") -> None:
        return None

    def done(self, note: str = "") -> None:
        if self._steps:
            step = self._steps.pop()
            self.note(finished_line(step.what, time.monotonic() - step.started, note))

    def note(self, text: str) -> None:
        self.stream.write(f"{text}\n")
        self.stream.flush()


class Bars:
    """A bar for the current step, and a line above it for each finished one. A step may lie within another."""

    def __init__(self, stream: TextIO) -> None:
        self._console = console_on(stream)
        self.rich = _rich_progress(self._console)
        self._steps: list[_Step] = []

    def start(self, what: str, *, total: int | None = None) -> None:
        """A new bar; it runs to and fro where the total is unknown."""
        task = self.rich.add_task(_escaped(what), total=total, note="")
        self._steps.append(_Step(what, time.monotonic(), task))

    def advance(self, units: int = 1, *, note: str = "") -> None:
        """Move the current bar."""
        if self._steps and (task := self._steps[-1].task) is not None:
            self.rich.advance(task, units)
            if note:
                self.rich.update(task, note=_escaped(note))

    def done(self, note: str = "") -> None:
        """The current bar becomes a line."""
        if not self._steps:
            return
        step = self._steps.pop()
        if step.task is not None:
            self.rich.remove_task(step.task)
            self.rich.refresh()  # else the next line would be drawn above the bar as it was
        took = duration(time.monotonic() - step.started)
        self._console.print(f"[green]✓[/] {_escaped(step.what)}  [cyan]{took}[/]  [dim]{_escaped(note)}[/]")

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._console.print(f"[dim]{_escaped(text)}[/]")


def _rich_progress(console: object) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    assert isinstance(console, Console)
    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(show_speed=False),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
        transient=True,
        # Else rich would put itself in the place of sys.stdout, which stages lead to their logs.
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
