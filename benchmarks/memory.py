"""Peak memory and time of the EfficientNet-Lite0 builds, each from nothing in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from benchmarks.places import cases

# A process between us and the build, so that getrusage counts that build's processes only.
_RUN = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps({"code": code, "seconds": time.perf_counter() - started, "peak_bytes": peak}))
"""


def run() -> None:
    """Print wall time and the largest process's peak resident memory."""
    for case in cases():
        if not case.name.startswith("efficientnet"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "edgepack", "build", "--recipe", str(case.recipe), "--allow-failed-checks"]
            places = ["--work-dir", f"{folder}/work", "--dist-dir", f"{folder}/dist"]
            done = subprocess.run(
                [sys.executable, "-c", _RUN, *command, *places], capture_output=True, text=True, check=True
            )
        found = json.loads(done.stdout)
        state = "" if found["code"] == 0 else f"   (exit code {found['code']})"
        print(f"{case.name}: {found['seconds']:.0f} s, peak memory {found['peak_bytes'] / 1e9:.2f} GB{state}")
