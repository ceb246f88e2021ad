"""The steps of `make demo`, cold and warm."""

from __future__ import annotations

import shutil
import sys

from benchmarks.places import EXAMPLES, edgepack, measured

_DEMO = EXAMPLES / "digits"


def run() -> None:
    """Remove what the demo made, run its three steps twice, print the times."""
    for made in (".edgepack", "dist"):
        shutil.rmtree(_DEMO / made, ignore_errors=True)
    (_DEMO / "weights.safetensors").unlink(missing_ok=True)
    steps = {
        "train": (sys.executable, str(_DEMO / "train.py")),
        "build": edgepack("build", "--recipe", str(_DEMO), "--target", "arm64"),
        "bench": edgepack("bench", str(_DEMO / "dist/digits-1.0.0-arm64.edgepack"), "--against-float"),
    }
    for round_name in ("cold", "warm"):
        seconds = {name: measured(*command).seconds for name, command in steps.items()}
        parts = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        print(f"{round_name}: {sum(seconds.values()):.1f} s ({parts})")
