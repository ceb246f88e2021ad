"""What a way to reach a device must be able to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from edgepack.core.errors import DeviceLost
from edgepack.records import DeviceName

# Spinning OpenMP threads on a busy machine make work many times slower, so the number is never left to a default.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
# These would let the caller's settings, or those of the device's login, into the measured process.
DROPPED_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONMALLOC", "PYTHONDEVMODE", "PYTHONTRACEMALLOC")

__all__ = ["CompletedRun", "DeviceLost", "DeviceName", "RunTimeout", "Transport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedRun:
    """How a command ended: its exit code (negative: killed by that signal) and what it wrote.

    A transport adds what it knows of the end (the device's memory ran out, its disk is full) to `stderr`, as lines that begin with '[edgepack]'.
    """

    returncode: int
    stdout: str
    stderr: str


class RunTimeout(TimeoutError):
    """A command did not end in time, and was killed. `stdout` is what it had written."""

    def __init__(self, message: str, *, stdout: str = "") -> None:
        super().__init__(message)
        self.stdout = stdout


class Transport(Protocol):
    """A device that takes files and runs commands, one at a time, in a private folder that `close` removes.

    A lost device raises DeviceLost, and the transport stays lost: open the device again to go on. A command that fails is no exception but a return code.
    A factory in TRANSPORTS takes what follows '://' in an address, and the device's entry in devices.toml as `device=`, by default None.
    """

    def describe(self) -> DeviceName: ...

    def put(self, local: Path, *, companions: Sequence[Path] = ()) -> str:
        """Copy a file to the device, and others to lie beside it, all under their own names; its path there. Files put later never replace it."""

    def run(
        self, argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CompletedRun:
        """Run a command in the private folder; 'python' as its first word means the device's Python, with the packages of its `python_path`.

        `environment` is added to the device's own. Raises RunTimeout, a TimeoutError, after `timeout_s`; then, and when
        interrupted, the command and all that it started are dead. The numeric libraries' threads are 1 unless `environment` or the command sets them.
        Raises EnvironmentProblem for a command that can't be started.
        """

    def get(self, remote: str, local: Path) -> None:
        """Copy a file from the device; a relative path starts in the private folder. Raises FileNotFoundError."""

    def close(self) -> None:
        """Remove the private folder. Closing twice is fine."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...
