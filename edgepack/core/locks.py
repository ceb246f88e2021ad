"""Locks that a killed process can't leave behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.2


@contextmanager
def exclusive(path: Path, *, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock `path` for the block; wait while another process holds it.

    The kernel ties the lock (flock) to the holder's open file, so it ends with the process, `kill -9` included,
    and a stale one cannot exist. The file holds the holder's PID, only to be told. `waiting` is called once,
    with that PID, if the lock is not free at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waiting is not None and not told:
                    file.seek(0)
                    waiting(file.read().strip() or "unknown")
                    told = True
                time.sleep(_POLL_S)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
