"""What a user waits for when nothing is to be done."""

from __future__ import annotations

import sys

from benchmarks.places import EXAMPLES, edgepack, measured

_RUNS = 9


def run() -> None:
    """Print medians over fresh processes, with the bare interpreter's beside them."""
    measured(sys.executable, str(EXAMPLES / "digits/train.py"))
    measured(*edgepack("build", "--recipe", str(EXAMPLES / "digits")))
    commands = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "edgepack --help": edgepack("--help"),
        "edgepack build (nothing to do)": edgepack("build", "--recipe", str(EXAMPLES / "digits")),
    }
    rows: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(_RUNS):
        for name, command in commands.items():
            rows[name].append(measured(*command).seconds)
    for name, seconds in rows.items():
        ordered = sorted(seconds)
        print(f"{name:34} median {ordered[_RUNS // 2]:.3f} s   best {ordered[0]:.3f} s   of {_RUNS} runs")
