"""What `edgepack report` costs for a fleet of 300 devices × 1,000 runs, in a process of its own, on the store of the page `store`.

The page's size is part of the answer: a report is sent by mail. CPU seconds stand beside the wall's, for other work on the machine stretches the latter.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.places import ROOT
from benchmarks.store import make_fleet

_ASK = """
import sys, time
from edgepack.cli import app
began = time.perf_counter()
app.main(["report", "--bundle", "digits", "-o", sys.argv[1]], prog_name="edgepack", standalone_mode=False)
wall, cpu = time.perf_counter() - began, time.process_time()
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(f"{wall:.2f} s, {cpu:.2f} s of CPU time, {peak / 1024:.0f} MiB")
"""


def run() -> None:
    """Print seconds, memory and the page's size."""
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        file = Path(folder) / "results.sqlite"
        make_fleet(file)
        environment = {**os.environ, "EDGEPACK_STORE": str(file)}
        done = subprocess.run(
            [sys.executable, "-c", _ASK, str(Path(folder) / "report.html")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        print(done.stdout or done.stderr[-500:])
