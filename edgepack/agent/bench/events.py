"""What is told while it happens: JSON lines, so that whoever reads them still has the samples of a process that was cut off.

`start` (what is measured and where), `samples` (warm-up or measured, in order), `state` (of the device), and at the end either `end` or `error`.
"""

from __future__ import annotations

import json
import time
from array import array
from typing import Any, TextIO

AGENT = 2  # the version of these events
FLUSH_S = 0.5


class Events:
    """Writes events to a stream, each as one line; samples together, at most every FLUSH_S, when `between` is called."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # 8 bytes a sample, so that many samples don't show in the peak memory.
        self._waiting, self._kind, self._flushed_s = array("q"), "", 0.0

    def tell(self, event: str, **content: Any) -> None:
        """One event, at once, after the samples that wait."""
        self.flush()
        self._write(dict(event=event, **content))

    def sample(self, kind: str, nanoseconds: int) -> None:
        """Keep a sample to be told later; `kind` is 'warmup' or 'measured'."""
        if kind != self._kind:
            self.flush()
            self._kind, self._flushed_s = kind, time.perf_counter()
        self._waiting.append(nanoseconds)

    def between(self, now_s: float) -> None:
        """Called between two inferences: tells the samples that have waited long enough."""
        if now_s - self._flushed_s >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Tell the samples that wait."""
        if self._waiting:
            self._write({"event": "samples", "kind": self._kind, "ns": self._waiting.tolist()})
            self._waiting = array("q")
        self._flushed_s = time.perf_counter()

    def _write(self, event: dict[str, Any]) -> None:
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()
