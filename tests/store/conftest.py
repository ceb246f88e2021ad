"""A store in each kind of database that edgepack keeps results in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest

from edgepack.store.results import ResultStore, open_store


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    """A real PostgreSQL server, one a session."""
    if reason := postgres_server.why_not():
        pytest.skip(reason)
    with postgres_server.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'results.sqlite'}"
    running: postgres_server.Server = request.getfixturevalue("postgres")
    return running.schema()


@pytest.fixture
def store(store_url: str) -> Iterator[ResultStore]:
    with open_store(store_url) as opened:
        yield opened
