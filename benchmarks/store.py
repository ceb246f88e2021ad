"""How fast the results store takes runs in, and what a fleet of 300 devices × 1,000 runs costs to read.

The first 10,000 runs are inserted as `edgepack bench` does it (each with 400 samples, 4 states of the device); the other devices' are copies of them,
made inside the database. Each question is asked in a process of its own; time and memory are the whole process's, imports included.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.made_runs import made_run
from benchmarks.places import ROOT, edgepack
from edgepack.records import DeviceName, RunRecord
from edgepack.store.results import open_store

DEVICES, RUNS_A_DEVICE = 300, 1000
_INSERTED_DEVICES = 10
_INSERTED = _INSERTED_DEVICES * RUNS_A_DEVICE
_SAMPLES = 400
_RUNS_A_BENCH = 500  # of each device: two benches of 150,000 runs
_PARTS = ("metrics", "reports", "samples", "states", "layers", "accuracies")
_QUESTIONS = {
    "summaries of all": "found = len(store.summaries())",
    "values of one metric of all": "found = len(store.values('latency_p50_ms'))",
    "summaries of one device": "found = len(store.summaries(Where(device='device7')))",
    "the list of benches": "found = len(store.benches())",
}
_COMMANDS = {
    "edgepack compare, 2 × 150,000 runs": ("compare", "bench-0", "bench-1", "--json"),
    "edgepack report of all": ("report", "bench-0", "bench-1", "-o", "report.html"),
    "edgepack results export csv": ("results", "export", "--format", "csv", "-o", "runs.csv"),
}
_ASK = """
import sys
from edgepack.store.results import Where, open_store
with open_store(sys.argv[1]) as store:
    {question}
print(f"{{found:,}}")
"""


def run() -> None:
    """Print seconds and memory."""
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        file = Path(folder) / "results.sqlite"
        make_fleet(file)
        print(f"a store of {DEVICES * RUNS_A_DEVICE:,} runs: {file.stat().st_size / 2**20:,.0f} MiB")
        print(f"{'':36} {'time':>8} {'of CPU':>8} {'peak':>9}  found")
        for name, question in _QUESTIONS.items():
            command = [sys.executable, "-c", _ASK.format(question=question), str(file)]
            print(f"{name:36} {_measured(command, file)}", flush=True)
        for name, arguments in _COMMANDS.items():
            print(f"{name:36} {_measured([*edgepack(*arguments)], file)}", flush=True)


def make_fleet(file: Path) -> None:
    """A store of 300 devices × 1,000 runs."""
    _insert(file)
    _copy(file)


def _insert(file: Path) -> None:
    records = list(_runs())
    with open_store(str(file)) as store:
        began = time.perf_counter()
        store.add(records)
        seconds = time.perf_counter() - began
    print(f"inserting {len(records):,} runs: {seconds:.1f} s ({len(records) / seconds:,.0f} a second)")


def _runs() -> Iterator[RunRecord]:
    rng = np.random.default_rng(0)
    for number in range(_INSERTED):
        device, place = divmod(number, RUNS_A_DEVICE)
        samples = rng.normal(5e6, 5e4, _SAMPLES).astype(np.int64)
        yield made_run(
            bench=f"bench-{place // _RUNS_A_BENCH}",
            device=DeviceName(transport="ssh", name=f"device{device}"),
            samples_ns=tuple(samples.tolist()),
            number=place,
        )


def _copy(file: Path) -> None:
    """The runs of the first devices once more for as many other devices, until all have theirs."""
    with sqlite3.connect(file) as database:
        for copy in range(1, DEVICES // _INSERTED_DEVICES):
            first, more = copy * _INSERTED, copy * _INSERTED_DEVICES
            database.execute(
                "INSERT INTO devices SELECT id + ?, digest || ?, transport, 'device' || (id - 1 + ?), "
                "json_set(content, '$.name', 'device' || (id - 1 + ?)) FROM devices WHERE id <= ?",
                (more, copy, more, more, _INSERTED_DEVICES),
            )
            database.execute(
                "INSERT INTO runs SELECT id + ?, lower(hex(randomblob(32))), bench, device + ?, subject, conditions, environment, round, "
                "position, attempt, attempts, started_at, status, reason FROM runs WHERE id <= ?",
                (first, more, _INSERTED),
            )
            for table in _PARTS:
                columns = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")]
                chosen = ", ".join("run + ?" if name == "run" else name for name in columns)
                database.execute(f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE run <= ?", (first, _INSERTED))
    database.close()


def _measured(command: list[str], file: Path) -> str:
    """Wall and processor seconds and peak memory of a whole process, and what it printed where that is short."""
    environment = {**os.environ, "EDGEPACK_STORE": str(file), "PYTHONPATH": str(ROOT)}
    with (file.parent / "said").open("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=file.parent, env=environment, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().strip()
    found = text if len(text) < 60 else f"{len(text):,} characters"
    found = found if process.returncode == 0 else f"FAILED: {text[-300:]}"
    cpu = used.ru_utime + used.ru_stime
    return f"{seconds:6.2f} s {cpu:6.2f} s {used.ru_maxrss / 1024:5.0f} MiB  {found}"
