from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.records import RunRecord
from edgepack.store.results import ResultStore, open_store
from tests.report.synthetic import bench_of_boards, builds


@pytest.fixture(scope="session")
def records() -> list[RunRecord]:
    """One bench of four models on three boards and an emulated machine, and seven earlier builds on one board."""
    return [*builds(), *bench_of_boards()]


@pytest.fixture(scope="session")
def store(records: list[RunRecord], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultStore]:
    path: Path = tmp_path_factory.mktemp("store") / "results.db"
    with open_store(f"sqlite:///{path}") as opened:
        assert opened.add(records).ignored == 0
        yield opened
