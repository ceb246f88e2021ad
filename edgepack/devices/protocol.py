"""What a way to reach a device must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from edgepack.core.errors import EnvironmentProblem
from edgepack.records import DeviceName


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedRun:
    """How a command ended: its exit code (negative: killed by that signal) and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class DeviceLost(EnvironmentProblem):
    """The device went away while a command ran: the link broke, it froze, rebooted, or its disk is full. `stdout` is what had come home."""

    exit_code = 11

    def __init__(self, message: str, *, stdout: str = "") -> None:
        super().__init__(message)
        self.stdout = stdout


class Transport(Protocol):
    """A device that takes files and runs commands, one at a time, in a private folder that `close` removes.

    A lost device raises DeviceLost; a command that fails is no exception but a return code.
    """

    def describe(self) -> DeviceName: ...

    def put(self, local: Path, *, companions: Sequence[Path] = ()) -> str:
        """Copy a file to the device, and others to lie beside it, all under their own names; its path there. Files put later never replace it."""

    def run(self, argv: Sequence[str], *, timeout_s: float) -> CompletedRun:
        """Run a command in the private folder; 'python' as its first word means the device's Python.

        Raises TimeoutError after `timeout_s` (what the command had written is its attribute `stdout`, where the transport has it); then, and when
        interrupted, the command and all that it started are dead. The numeric libraries' threads are 1 unless the command sets them itself.
        """

    def get(self, remote: str, local: Path) -> None:
        """Copy a file from the device; a relative path starts in the private folder. Raises FileNotFoundError."""

    def close(self) -> None:
        """Remove the private folder. Closing twice is fine."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...
