"""What a database says when it fails, as one message that says where, what and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from edgepack.core.errors import EnvironmentProblem
from edgepack.store.sql.codec import UnreadableError
from edgepack.store.sql.place import VARIABLE, Place

BUSY_TIMEOUT_S = 60.0
_ELSEWHERE = f"choose another place with {VARIABLE}"

# What the driver says (in part, in small letters) and what a user reads. SQLite's are of sqlite3ErrStr (main.c); PostgreSQL's of libpq and errcodes.
_SQLITE = {
    "unable to open database file": "can't be opened: make its folder writable, or {elsewhere}",
    "readonly database": "can't be written: make the file and its folder writable, or {elsewhere}",
    "file is not a database": "is not a database, or damaged: move it away, or {elsewhere}",
    "malformed": "is damaged: restore it from a copy, or {elsewhere}",
    "disk is full": "no space left on the disk; nothing was half written: free some space and run again, or {elsewhere}",
    "disk i/o error": "the disk refused a write (full, or over a limit of size): free some space and run again, or {elsewhere}",
    "database is locked": "another process has been writing for more than {busy:g} s: run again when it is done",
}
_POSTGRESQL = {
    "password authentication failed": "the server refused the user or the password: give them in {variable} or in ~/.pgpass",
    "no password supplied": "the server wants a password: give it in {variable} or in ~/.pgpass",
    "does not exist": "the server answers, but: {said}. Create it (createdb), or correct {variable}",
    "permission denied": "{said}: grant the user CREATE on the schema, or correct {variable}",
    "must be owner": "a newer edgepack adds to the tables, and {said}: open the store once as their owner ('edgepack results')",
    "connection refused": "no server answers there: start it, or correct {variable}",
    "failed to resolve host": "no such host: correct {variable}",
    "name or service not known": "no such host: correct {variable}",
    "no such file or directory": "no server answers there: start it, or correct {variable}",
    "lock timeout": "another process has been writing for more than {busy:g} s: run again when it is done",
    "statement timeout": "the server took longer than ten minutes over one question: ask for less, or look what holds it up",
    "timeout": "the server did not answer in time: is it up, and may this machine reach it?",
    "could not extend file": "no space left on the server's disk; nothing was half written: free some and run again",
    "no space left": "no space left on the server's disk; nothing was half written: free some and run again",
    "read-only transaction": "the server takes no writes (a standby?): name the primary in {variable}",
    "terminating connection": "the server ended the connection; what was under way was undone: run again, results are not duplicated",
    "server closed the connection": "the server ended the connection; what was under way was undone: run again, results are not duplicated",
    "connection is lost": "the connection was lost; what was under way was undone: run again, results are not duplicated",
}


@contextmanager
def told(place: Place) -> Iterator[None]:
    """Raises EnvironmentProblem for whatever the database or its driver raises inside."""
    try:
        yield
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("psycopg", "psycopg_binary"):
            raise
        raise _problem(place, "the driver psycopg is not installed: pip install 'edgepack[postgres]'") from exc
    except ImportError as exc:  # psycopg without libpq
        if "pq" not in str(exc):
            raise
        what = "psycopg is installed without libpq: pip install 'edgepack[postgres]', which brings psycopg[binary]"
        raise _problem(place, what) from exc
    except UnreadableError as exc:
        what = f"a row can't be read ({exc}): was it changed by hand? Restore the store from a copy"
        raise _problem(place, what) from exc
    except DBAPIError as exc:
        raise _problem(place, _explained(place, str(exc.orig))) from exc
    except SQLAlchemyError as exc:
        raise _problem(place, _first_line(str(exc))) from exc


def _explained(place: Place, said: str) -> str:
    known = _SQLITE if place.kind == "sqlite" else _POSTGRESQL
    for part, text in known.items():
        if part in said.lower():
            words = {"elsewhere": _ELSEWHERE, "variable": VARIABLE, "busy": BUSY_TIMEOUT_S, "said": _first_line(said)}
            return text.format(**words)
    return f"the database failed: {_first_line(said)}"


def _first_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0].partition("FATAL:")[2].strip() or lines[0] if lines else "no reason given"


def _problem(place: Place, what: str) -> EnvironmentProblem:
    return EnvironmentProblem(f"results store {place.shown}: {what}")
