"""The build's own time over that of the libraries it calls, by sampling the main thread's stack.

A moment counts as a library's when any frame of the stack belongs to one; all else, C code that edgepack calls directly
included, counts as our own.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from benchmarks.places import EXAMPLES, measured
from edgepack.pipeline import build

_INTERVAL_S = 0.005
_OURS = str(Path(__file__).resolve().parent.parent / "edgepack")


def run() -> None:
    """Build the demo from nothing and print the shares."""
    measured(sys.executable, str(EXAMPLES / "digits/train.py"))
    seconds: Counter[str] = Counter()
    places: Counter[str] = Counter()
    stop = threading.Event()
    sampler = threading.Thread(target=_sample, args=(threading.main_thread().ident, seconds, places, stop), daemon=True)
    with tempfile.TemporaryDirectory() as folder:
        sampler.start()
        build(EXAMPLES / "digits", work_folder=Path(folder) / "work", dist_folder=Path(folder) / "dist")
        stop.set()
        sampler.join()
    own, library = seconds["own"], seconds["library"]
    print(f"libraries {library:.1f} s, edgepack's own {own:.2f} s: overhead {own / library:.1%}")
    for place, spent in places.most_common(5):
        print(f"  {spent:6.2f} s  {place}")


def _sample(thread: int | None, seconds: Counter[str], places: Counter[str], stop: threading.Event) -> None:
    last = time.perf_counter()
    while not stop.wait(_INTERVAL_S):
        frame = sys._current_frames().get(thread or 0)
        now = time.perf_counter()
        kind = _kind(frame)
        seconds[kind] += now - last  # type: ignore[assignment]
        if kind == "own" and frame is not None:
            places[f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"] += now - last  # type: ignore[assignment]
        last = now


def _kind(frame: FrameType | None) -> str:
    """'library' when a package from site-packages is at work, or is being imported."""
    while frame is not None:
        name = frame.f_code.co_filename
        if "site-packages" in name or "importlib" in name:
            return "library"
        if name.startswith(_OURS):
            return "own"
        frame = frame.f_back
    return "own"
