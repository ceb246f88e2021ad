"""What a further target costs: three together against each alone, after the shared training; and what exporting to each takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.memory import _RUN
from benchmarks.places import cases

TARGETS = ("arm64", "intel", "x86_64")
RATIO_MAX, EXPORT_S_MAX, PEAK_BYTES_MAX = 1.25, 60.0, 2.5e9
# What a build does before and while it trains.
_SHARED = ("load", "baseline", "check", "quantize", "prune_magnitude")


def run() -> None:
    """Print the time of a build for each target and for all three, from one compressed network; the sum of the three exports; the largest memory."""
    for case in cases():
        if not case.name.startswith("efficientnet_lite0 PTQ"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "whole"
            _build(case.recipe, whole, TARGETS)
            alone = {name: _build(case.recipe, _without_targets(whole), (name,)) for name in TARGETS}
            together = _build(case.recipe, _without_targets(whole), TARGETS)
        for name, found in (*alone.items(), ("all three", together)):
            exports = ", ".join(f"{value:.1f} s" for value in found["export_s"])
            print(
                f"{name:10} {found['seconds']:.1f} s, peak memory {found['peak_bytes'] / 1e9:.2f} GB, export {exports}"
            )
        ratio = together["seconds"] / max(found["seconds"] for found in alone.values())
        exporting = sum(together["export_s"])
        print(f"all three ÷ slowest alone = {ratio:.2f} {_verdict(ratio, RATIO_MAX)}")
        print(f"exporting to all three: {exporting:.1f} s {_verdict(exporting, EXPORT_S_MAX)}")
        print(f"peak memory: {together['peak_bytes'] / 1e9:.2f} GB {_verdict(together['peak_bytes'], PEAK_BYTES_MAX)}")


def _build(recipe: Path, work: Path, targets: tuple[str, ...]) -> dict[str, Any]:
    flags = [word for name in targets for word in ("--target", name)]
    command = [sys.executable, "-m", "edgepack", "build", "--recipe", str(recipe), "--allow-failed-checks", *flags]
    places = ["--work-dir", str(work), "--dist-dir", f"{work}-dist"]
    done = subprocess.run([sys.executable, "-c", _RUN, *command, *places], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if found["code"] != 0:
        raise SystemExit(f"the build for {' '.join(targets)} ended with exit code {found['code']}")
    exports = [json.loads(file.read_text(encoding="utf-8")) for file in work.glob("stages/export-*/stage.json")]
    found["export_s"] = sorted(float(one["seconds"]) for one in exports)
    return found


def _without_targets(whole: Path) -> Path:
    """A copy of the stages that come before and with the training: what is left is what follows it."""
    copy = Path(tempfile.mkdtemp(dir=whole.parent)) / "work"
    shutil.copytree(whole, copy)
    for stage in (copy / "stages").iterdir():
        if stage.name.partition("-")[0] not in _SHARED:
            shutil.rmtree(stage)
    return copy


def _verdict(value: float, limit: float) -> str:
    return f"(goal ≤ {limit:g}: {'met' if value <= limit else 'MISSED'})"
