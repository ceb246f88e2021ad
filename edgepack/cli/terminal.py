"""The user's terminal: where progress and tables are drawn. rich is imported when something is drawn, not before."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_PIPED_WIDTH = 160  # wide enough that no table is cut where nobody looks at its edge


@contextmanager
def progress_stream() -> Iterator[TextIO]:
    """A stream to the user's standard error that stays theirs while libraries' output is led away.

    `core.chatter` puts a log file in the place of descriptors 1 and 2, so this is a duplicate, made before.
    """
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # not a real file: a test's, a notebook's
        yield sys.stderr
        return
    with open(descriptor, "w", encoding=sys.stderr.encoding, errors="replace", buffering=1) as stream:  # noqa: PTH123  # a descriptor
        try:
            yield stream
        finally:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def console_on(stream: TextIO) -> Console:
    """A rich console; plain text and wide where the stream is no terminal."""
    from rich.console import Console

    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False, emoji=False, markup=True)


def draw(*parts: RenderableType) -> None:
    """Print tables and lines to standard output."""
    console = console_on(sys.stdout)
    if console.is_terminal:
        console.print(*parts, sep="\n")
        return
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    for line in capture.get().splitlines():
        click.echo(line.rstrip())  # rich fills lines with spaces, which a file or a pipe needs no more than a reader


def echo_json(value: Any) -> None:
    """Print one JSON value to standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def shown(path: Path) -> str:
    """A path as a user would type it here: relative below the current folder."""
    absolute = path.absolute()
    with contextlib.suppress(ValueError, OSError):
        return str(absolute.relative_to(Path.cwd()))
    return str(absolute)
