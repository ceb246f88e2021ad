"""A fleet in the store: inserting 10,000 runs in 30 s; 300 devices × 1,000 runs compared in 10 s and a gigabyte."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.made_runs import made_run
from benchmarks.store import make_fleet
from edgepack.records import DeviceName, RunRecord
from edgepack.store.results import ResultStore

_RUN = """
import sys, time
from edgepack.cli import app
app.main(sys.argv[1:], prog_name="edgepack", standalone_mode=False)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(f"CPU {time.process_time():.2f} peak {peak / 1024:.0f}")
"""


def many(count: int) -> Iterator[RunRecord]:
    random = np.random.default_rng(0)
    for number in range(count):
        samples = random.normal(5e6, 5e4, 400).astype(np.int64)
        yield made_run(
            bench="b", device=DeviceName(transport="ssh", name="d"), samples_ns=tuple(samples.tolist()), number=number
        )


def test_a_tenth_of_ten_thousand_runs_is_inserted_in_a_tenth_of_thirty_seconds(store: ResultStore) -> None:
    """CPU time stands for the wall's: other tests run beside this one. PostgreSQL's own is not in it."""
    records = list(many(1000))

    began = time.process_time()
    store.add(records)

    assert time.process_time() - began <= 3
    assert len(store.summaries()) == 1000


@pytest.mark.slow
def test_a_fleets_benches_are_compared_in_ten_seconds_and_a_gigabyte(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    make_fleet(file)

    for command in (["compare", "bench-0", "bench-1", "--json"], ["results", "list"], ["results", "runs", "bench-1"]):
        done = subprocess.run(
            [sys.executable, "-c", _RUN, *command],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
            env={**os.environ, "EDGEPACK_STORE": str(file)},
        )

        found = re.search(r"CPU ([0-9.]+) peak ([0-9]+)", done.stdout)
        assert found is not None
        assert float(found[1]) <= 10, command
        assert int(found[2]) <= 1000, command
