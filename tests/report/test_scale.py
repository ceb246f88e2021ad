"""A fleet's report: 300 devices × 1,000 runs in at most 10 s and 1 GB, and a page that can be sent by mail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.store import make_fleet
from edgepack.report.html import html_report
from edgepack.store.results import ResultStore, Where

_ASK = """
import sys, time
from edgepack.cli import app
app.main(["report", "--bundle", "digits", "-o", sys.argv[1]], prog_name="edgepack", standalone_mode=False)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(f"CPU {time.process_time():.2f} peak {peak / 1024:.0f}")
"""


@pytest.mark.slow
def test_a_fleets_report_takes_ten_seconds_and_a_gigabyte(tmp_path: Path) -> None:
    """CPU time stands for the wall's: other tests run beside this one."""
    store, page = tmp_path / "results.sqlite", tmp_path / "report.html"
    make_fleet(store)

    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(page)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "EDGEPACK_STORE": str(store)},
    )

    found = re.search(r"CPU ([0-9.]+) peak ([0-9]+)", done.stdout)
    assert found is not None
    assert "300000 runs in 600 rows" in done.stdout
    assert float(found[1]) <= 10
    assert int(found[2]) <= 1000
    assert page.stat().st_size <= 5e6


def test_the_page_from_python_is_that_of_the_store(store: ResultStore) -> None:
    """As docs/report.md shows it."""
    where = Where(bench=store.resolve("latest"))

    page = html_report(store.summaries(where), details=store.runs(where))

    assert page.count('<tr data-row="r') >= 16
