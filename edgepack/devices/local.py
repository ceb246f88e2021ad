"""This machine as a device: commands run as child processes in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from edgepack.core.errors import EnvironmentProblem, UsageError
from edgepack.core.files import out_of_space_is_clear
from edgepack.devices.inventory import Device
from edgepack.devices.protocol import DROPPED_VARIABLES, ONE_THREAD, CompletedRun, RunTimeout
from edgepack.records import DeviceName


class LocalTransport:
    """A Transport to this machine; its Python is the one that runs edgepack, unless its entry in devices.toml names another."""

    def __init__(self, place: str = "", *, device: Device | None = None) -> None:
        if place:
            raise UsageError(f"local://{place}: this machine is just 'local'")
        self._name = "this machine" if device is None else device.name
        self._python = sys.executable if device is None or device.python is None else device.python
        path = () if device is None else device.python_path
        self._added = ONE_THREAD | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})
        self._folder = Path(tempfile.mkdtemp(prefix="edgepack-device-"))
        self._puts = 0

    def describe(self) -> DeviceName:
        return DeviceName(transport="local", name=self._name)

    def put(self, local: Path, *, companions: Sequence[Path] = ()) -> str:
        self._puts += 1
        folder = self._folder / f"{self._puts:03d}"
        folder.mkdir()
        for file in (local, *companions):
            with out_of_space_is_clear(folder / file.name):
                shutil.copyfile(file, folder / file.name)
        return str(folder / local.name)

    def run(
        self, argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CompletedRun:
        command = [self._python if argv[0] == "python" else argv[0], *argv[1:]]
        usual = {name: value for name, value in os.environ.items() if name not in DROPPED_VARIABLES}
        try:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={**usual, **self._added, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # a process group of its own, so that all of it can be killed
            )
        except OSError as exc:
            raise EnvironmentProblem(f"{command[0]}: can't be started on this machine: {exc.strerror}") from exc
        with process:
            try:
                stdout, stderr = process.communicate(timeout=timeout_s)
            except BaseException as exc:
                _kill_group(process)
                if isinstance(exc, subprocess.TimeoutExpired):
                    raise RunTimeout(
                        f"'{' '.join(argv)}' did not end within {timeout_s:g} s", stdout=_rest(process)
                    ) from exc
                raise
        return CompletedRun(returncode=process.returncode, stdout=stdout, stderr=stderr)

    def get(self, remote: str, local: Path) -> None:
        with out_of_space_is_clear(local):
            shutil.copyfile(self._folder / remote, local)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill the child and what it started; the child is not yet reaped, so its group's number is still its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _rest(process: subprocess.Popen[str]) -> str:
    """All that a killed child had written; a process that left its group may hold the pipe, so this is bounded."""
    try:
        return process.communicate(timeout=1)[0]
    except subprocess.TimeoutExpired as exc:
        return (exc.output or b"").decode(errors="replace")
