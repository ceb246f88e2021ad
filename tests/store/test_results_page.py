"""docs/results.md: its SQL and its Python run, and it names every table and format."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_runs import run
from sqlalchemy import text

from edgepack.store.exports import FORMATS
from edgepack.store.results import ResultStore, open_store
from edgepack.store.sql import schema
from edgepack.store.sql.connect import open_engine, reading

PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The page's first block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_its_sql_runs_in_every_database(store: ResultStore) -> None:
    store.add([run(0), run(1), run(2, status="partial")])

    engine = open_engine(store.place)
    with reading(engine, store.place) as connection:
        rows = connection.execute(text(block("sql"))).fetchall()
    engine.dispose()

    assert [tuple(row) for row in rows] == [("1.0.0", "pi5", 2, pytest.approx(1.1))]


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "results.sqlite"))
    with open_store() as store:
        store.add([run(0)])

    exec(compile(block("python"), "docs/results.md", "exec"), {})

    assert run(0).key in capsys.readouterr().out


def test_every_table_and_format_is_described() -> None:
    for name in (*schema.TABLES.tables, "metrics", "edgepack_schema", *FORMATS):
        assert f"`{name}`" in PAGE, name
