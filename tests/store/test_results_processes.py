"""Several processes on one store, and processes that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgepack.store.results import open_store

TESTS = Path(__file__).resolve().parents[1]
WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from made_runs import run
from edgepack.store.results import open_store
url, first, last, at_once = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
print("ready", flush=True)
sys.stdin.readline()
counts = [0, 0, 0]
with open_store(url) as store:
    for i in range(first, last, at_once):
        added = store.add(run(n) for n in range(i, i + at_once))
        counts = [a + b for a, b in zip(counts, (added.inserted, added.replaced, added.ignored))]
        print("added", i, flush=True)
print("counts", *counts)
"""


def writer(url: str, first: int, last: int, *, at_once: int) -> subprocess.Popen[str]:
    """A process that waits for a line, then opens the store and adds runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(TESTS), url, str(first), str(last), str(at_once)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def counts_of(process: subprocess.Popen[str]) -> list[int]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return [int(word) for word in out.splitlines()[-1].split()[1:]]


def test_several_processes_make_a_store_and_write_the_same_runs_at_once(store_url: str) -> None:
    processes = [writer(store_url, first, first + 60, at_once=3) for first in (0, 0, 30, 30, 60)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    counts = [counts_of(process) for process in processes]

    assert sum(inserted for inserted, _, _ in counts) == 120
    assert sum(ignored for _, _, ignored in counts) == 5 * 60 - 120
    with open_store(store_url) as store:
        assert sorted(summary.round for summary in store.summaries()) == list(range(120))


def test_a_process_killed_while_it_adds_leaves_whole_runs_only(store_url: str) -> None:
    rng = random.Random(0)
    for attempt in range(4):
        process = writer(store_url, 0, 100_000, at_once=400)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.4))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()

        with open_store(store_url) as store:
            records = list(store.runs())

        assert len(records) >= 400 and len(records) % 400 == 0, attempt
        assert all(record.report is not None and record.accuracy is not None for record in records)
        assert all(len(record.report.during) == 2 for record in records if record.report is not None)
    with open_store(store_url) as store:
        assert store.add([]).inserted == 0


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_sqlite_itself_finds_no_fault_after_a_kill(store_url: str) -> None:
    process = writer(store_url, 0, 100_000, at_once=200)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    import sqlite3

    with sqlite3.connect(store_url.removeprefix("sqlite:///")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()


def test_a_reader_does_not_wait_for_a_writer(store_url: str) -> None:
    process = writer(store_url, 0, 3000, at_once=300)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    process.stdout.readline()

    seen = []
    with open_store(store_url) as store:
        while process.poll() is None and len(seen) < 5:
            seen.append(len(store.summaries()))

    assert counts_of(process)[0] == 3000
    assert seen and all(count % 300 == 0 for count in seen)
