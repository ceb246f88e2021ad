"""Where results are kept: the user's SQLite file, another one, or a PostgreSQL database, from one text."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from edgepack.core.errors import UsageError

VARIABLE = "EDGEPACK_STORE"
FILE_NAME = "results.sqlite"
_FORMS = "a file (results.sqlite), sqlite:///FILE or postgresql://USER@HOST/DATABASE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database: SQLAlchemy's URL of it, and how messages name it (never with its password). `path` is SQLite's file."""

    kind: Literal["sqlite", "postgresql"]
    url: URL
    shown: str
    path: Path | None = None


def data_folder() -> Path:
    """Where a user's own data is kept on this machine (XDG Base Directory Specification 0.8)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "edgepack"


def place_of(text: str | None) -> Place:
    """The place that a text names: the one given, else $EDGEPACK_STORE, else a file in the user's data folder. Raises UsageError."""
    text = text or os.environ.get(VARIABLE) or str(data_folder() / FILE_NAME)
    if "://" not in text:
        return _file(Path(text).expanduser())
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as exc:
        raise UsageError(f"{_hidden(text)}: not a URL of a store ({VARIABLE}): write {_FORMS}") from exc
    kind = url.drivername.partition("+")[0]
    if kind == "sqlite":
        if not url.database or url.database == ":memory:":
            raise UsageError(f"{text}: names no file, and results in memory would be lost: write sqlite:///FILE")
        if url.query:
            raise UsageError(f"{text}: SQLite takes no options here ('?…'): write sqlite:///FILE")
        return _file(Path(url.database).expanduser())
    if kind in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
        shown = url.set(drivername="postgresql").render_as_string(hide_password=True)
        return Place(kind="postgresql", url=url, shown=shown)
    raise UsageError(
        f"{_hidden(text)}: edgepack keeps results in SQLite or PostgreSQL, not in '{kind}': write {_FORMS}"
    )


def _file(path: Path) -> Place:
    return Place(
        kind="sqlite", url=URL.create("sqlite+pysqlite", database=str(path.absolute())), shown=str(path), path=path
    )


def _hidden(text: str) -> str:
    """A URL that could not be read, without what stands before its '@'."""
    scheme, _, rest = text.partition("://")
    return f"{scheme}://…@{rest.rpartition('@')[2]}" if "@" in rest else text
