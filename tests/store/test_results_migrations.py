"""Schemas of stores: made, brought up to date, refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from made_runs import run
from sqlalchemy import inspect, text

from edgepack.core.errors import EnvironmentProblem
from edgepack.records import METRICS
from edgepack.store.results import open_store
from edgepack.store.sql import schema
from edgepack.store.sql.connect import open_engine, reading
from edgepack.store.sql.migrate import migrations, prepare
from edgepack.store.sql.place import Place, place_of

NEXT = max(migrations()) + 1
MORE = {**migrations(), NEXT: "ALTER TABLE runs ADD COLUMN weather {text};\nCREATE TABLE notes (id {id}, said {text});"}
BROKEN = {**migrations(), NEXT: "CREATE TABLE notes (id {id});\nALTER TABLE nothing ADD COLUMN weather {text};"}


def versions(place: Place) -> list[int]:
    engine = open_engine(place)
    with reading(engine, place) as connection:
        found = list(connection.execute(text("SELECT version FROM edgepack_schema ORDER BY version")).scalars())
    engine.dispose()
    return found


def test_the_migrations_make_the_tables_that_queries_use(store_url: str) -> None:
    open_store(store_url).close()

    place = place_of(store_url)
    engine = open_engine(place)
    with reading(engine, place) as connection:
        inspector = inspect(connection)
        for table in schema.TABLES.sorted_tables:
            found = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
            keys = {column.name for column in table.primary_key.columns}
            wanted = {column.name: bool(column.nullable) and column.name not in keys for column in table.columns}
            key_columns = set(inspector.get_pk_constraint(table.name)["constrained_columns"])
            assert {name: is_nullable and name not in keys for name, is_nullable in found.items()} == wanted
            assert key_columns == keys
        metrics = {column["name"] for column in inspector.get_columns("metrics")}
    engine.dispose()
    assert metrics == {"run", *METRICS}


def test_an_older_store_is_brought_up_to_date_and_keeps_its_runs(store_url: str) -> None:
    with open_store(store_url) as store:
        store.add([run(0)])
    place = place_of(store_url)
    engine = open_engine(place)

    prepare(engine, place, MORE)

    engine.dispose()
    assert versions(place) == [*migrations(), NEXT]


def test_a_migration_that_fails_leaves_the_store_as_it_was(store_url: str) -> None:
    with open_store(store_url) as store:
        store.add([run(0)])
    place = place_of(store_url)
    engine = open_engine(place)

    with pytest.raises(EnvironmentProblem, match=r"the database failed|does not exist"):
        prepare(engine, place, BROKEN)

    with reading(engine, place) as connection:
        assert not inspect(connection).has_table("notes")
    engine.dispose()
    assert versions(place) == list(migrations())
    with open_store(store_url) as store:
        assert list(store.runs()) == [run(0)]


def test_a_store_of_a_newer_edgepack_is_refused_with_what_to_do(store_url: str) -> None:
    place = place_of(store_url)
    engine = open_engine(place)
    prepare(engine, place, MORE)
    engine.dispose()

    with pytest.raises(
        EnvironmentProblem, match=rf"has schema {NEXT}.*knows schemas up to {NEXT - 1}: update edgepack"
    ):
        open_store(store_url)


def test_a_metric_that_a_store_lacks_gets_its_column(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    with open_store(str(file)) as store:
        store.add([run(0)])
    with sqlite3.connect(file) as older:
        older.execute("ALTER TABLE metrics DROP COLUMN energy_mj")
    older.close()

    with open_store(str(file)) as store:
        store.add([run(1)])

        assert ["energy_mj" in summary.metrics for summary in store.summaries()] == [False, True]


def test_a_metric_that_only_a_newer_edgepack_knows_is_read_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    with open_store(str(file)) as store:
        store.add([run(0)])
    with sqlite3.connect(file) as newer:
        newer.execute("ALTER TABLE metrics ADD COLUMN taste REAL")
        newer.execute("UPDATE metrics SET taste = 7")
    newer.close()

    with open_store(str(file)) as store:
        store.add([run(1)])

        assert [summary.metrics.get("taste") for summary in store.summaries()] == [7.0, None]
