"""Which cores the process may use and how many threads it has: set, and read back from the system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .errors import AgentError
from .files import ROOT, read, table


def pin(cores: list[int] | None) -> None:
    """Keep this process, and every thread that it will start, on these cores. Raises AgentError for one that is not there."""
    if cores is None:
        return
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, ValueError, TypeError) as exc:
        raise AgentError(
            "spec", f"cores {cores} can't be used: this process may use {sorted(os.sched_getaffinity(0))}"
        ) from exc
    if sorted(os.sched_getaffinity(0)) != sorted(set(cores)):
        raise AgentError("spec", f"cores {cores} were asked for; the system gave {sorted(os.sched_getaffinity(0))}")


def thread_count(root: Path = ROOT) -> int:
    """How many threads the process has (proc_pid_status(5))."""
    return int(table(read(root / "proc/self/status"))["Threads"])


def allowed_cores() -> list[int]:
    """The cores that this process's threads may use, every thread's together."""
    allowed: set[int] = set()
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208 - names of numbers, no paths
        try:
            allowed |= os.sched_getaffinity(int(task))
        except ProcessLookupError:  # a thread that has just ended
            continue
    return sorted(allowed)


def read_back(threads_before_load: int) -> dict[str, Any]:
    """Threads that compute, this one and those that the runtime has started since, and the cores that they may use."""
    return {"threads": 1 + max(0, thread_count() - threads_before_load), "affinity": allowed_cores()}
