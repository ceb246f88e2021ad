"""A store in each kind of database that edgepack keeps results in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.store.results import ResultStore, open_store


@pytest.fixture(params=["sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of each kind."""
    return f"sqlite:///{tmp_path / 'results.sqlite'}"


@pytest.fixture
def store(store_url: str) -> Iterator[ResultStore]:
    with open_store(store_url) as opened:
        yield opened
