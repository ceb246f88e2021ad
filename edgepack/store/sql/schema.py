"""The store's tables as queries see them: the newest schema. migrations/ has the same as SQL, step by step; a test compares the two."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import BigInteger, Column, Double, ForeignKey, LargeBinary, MetaData, Table, Text

TABLES = MetaData()


def _id() -> Column[int]:
    return Column("id", BigInteger, primary_key=True)


def _run(*, is_key: bool = False) -> Column[int]:
    return Column("run", BigInteger, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=is_key, nullable=False)


def _text(name: str, *, needed: bool = True, is_key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=not needed, primary_key=is_key)


def _number(name: str, *, needed: bool = True, is_key: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=not needed, primary_key=is_key)


def _real(name: str, *, needed: bool = True) -> Column[float]:
    return Column(name, Double, nullable=not needed)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


def _of(table: str, name: str, *, needed: bool = True) -> Column[int]:
    return Column(name, BigInteger, ForeignKey(f"{table}.id"), nullable=not needed)


def _noun(name: str, *columns: Column[str]) -> Table:
    return Table(name, TABLES, _id(), _text("digest"), *columns, _text("content"))


devices = _noun("devices", _text("transport"), _text("name"))
subjects = _noun(
    "subjects",
    *(_text(name) for name in ("label", "model_sha256", "runtime")),
    *(_text(name, needed=False) for name in ("bundle", "version", "target")),
)
conditions = _noun("conditions", _text("suite"))
environments = _noun("environments")
benches = Table("benches", TABLES, _id(), _text("name"), _text("started_at"))
runs = Table(
    "runs",
    TABLES,
    _id(),
    _text("key"),
    _of("benches", "bench"),
    _of("devices", "device"),
    _of("subjects", "subject"),
    _of("conditions", "conditions"),
    _of("environments", "environment", needed=False),
    *(_number(name) for name in ("round", "position", "attempt", "attempts")),
    _text("started_at"),
    _text("status"),
    _text("reason", needed=False),
)
attempts = Table(
    "attempts",
    TABLES,
    _run(is_key=True),
    _number("attempt", is_key=True),
    _text("started_at"),
    _text("status"),
    _text("reason", needed=False),
)
reports = Table("reports", TABLES, _run(is_key=True), _text("content"))
samples = Table(
    "samples",
    TABLES,
    _run(is_key=True),
    _text("kind", is_key=True),
    _text("dtype"),
    _text("codec"),
    _number("count"),
    _bytes("data"),
)
states = Table(
    "states",
    TABLES,
    _run(is_key=True),
    _text("moment", is_key=True),
    _number("place", is_key=True),
    _real("at_s"),
    _real("temperature_c", needed=False),
    _number("throttled", needed=False),
    _text("content"),
)
layers = Table(
    "layers",
    TABLES,
    _run(is_key=True),
    _number("place", is_key=True),
    _text("name"),
    _text("kind"),
    _real("mean_ms"),
    _number("calls"),
    _text("source_layer", needed=False),
)
accuracies = Table(
    "accuracies",
    TABLES,
    _run(is_key=True),
    _text("metric"),
    _real("value"),
    _text("inputs_sha256"),
    _real("agreement", needed=False),
    _real("max_steps", needed=False),
    _text("codec"),
    _number("count"),
    _bytes("correct"),
)
# What belongs to the kept attempt of a run, and goes when another attempt takes its place.
PARTS = (reports, samples, states, layers, accuracies)


def metrics_table(names: Iterable[str]) -> Table:
    """The table of metrics with the columns that a store has."""
    return Table("metrics", MetaData(), Column("run", BigInteger, primary_key=True), *map(_optional, names))


def _optional(name: str) -> Column[float]:
    return _real(name, needed=False)
