"""Connections to the store's database: settings, and transactions that either all or nothing of remains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.pool import NullPool, QueuePool

from edgepack.core.errors import EnvironmentProblem
from edgepack.store.sql.failures import BUSY_TIMEOUT_S, told
from edgepack.store.sql.place import VARIABLE, Place

_WRITES = "edgepack_writes"
# Every wait ends: of a host that is gone after about a minute (libpq's names, milliseconds only in the last), of a statement after ten.
_POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "application_name": "edgepack",
}
_STATEMENT_TIMEOUT_S = 600
_LOCK_KEY = 0x6564_6765_7061_636B  # 'edgepack': PostgreSQL's advisory locks are numbers


def open_engine(place: Place) -> Engine:
    """An engine on the place; SQLite's file and folder are made if need be. Raises EnvironmentProblem."""
    with told(place):
        if place.path is not None:
            return _sqlite(place)
        arguments = {name: value for name, value in _POSTGRESQL.items() if name not in place.url.query}
        engine = create_engine(place.url, connect_args=arguments, poolclass=QueuePool, pool_size=2, pool_pre_ping=True)
        event.listen(engine, "connect", _bound)
        return engine


@contextmanager
def reading(engine: Engine, place: Place) -> Iterator[Connection]:
    """A transaction that only reads: all its queries see the same moment."""
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ"} if place.kind == "postgresql" else {}
    with told(place), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine, place: Place) -> Iterator[Connection]:
    """A transaction that writes; one at a time over all processes, the others wait. Undone when the block raises."""
    with told(place), engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        if place.kind == "postgresql":
            connection.execute(text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": f"{BUSY_TIMEOUT_S:g}s"})
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        yield connection


def _sqlite(place: Place) -> Engine:
    assert place.path is not None
    try:
        place.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        what = f"its folder can't be made ({exc.strerror}): choose another place with {VARIABLE}"
        raise EnvironmentProblem(f"results store {place.shown}: {what}") from exc
    if place.path.is_dir():
        raise EnvironmentProblem(f"results store {place.shown}: is a folder: name a file in {VARIABLE}")
    engine = create_engine(place.url, connect_args={"timeout": BUSY_TIMEOUT_S}, poolclass=NullPool)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _record: Any) -> None:
    """Several readers beside one writer (WAL), whole after a kill or a power cut, references checked."""
    connection.isolation_level = None  # the driver begins no transaction of its own: `_begin` says which kind
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -65536"):
        connection.execute(f"PRAGMA {setting}")


def _bound(connection: Any, _record: Any) -> None:
    connection.execute(f"SET statement_timeout = '{_STATEMENT_TIMEOUT_S}s'")
    connection.commit()


def _begin(connection: Connection) -> None:
    """A writer takes the lock at once: one that reads first and writes then can't wait for another."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
