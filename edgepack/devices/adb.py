"""An Android device, or any other that runs `adbd`: `adb://SERIAL`, by Google's adb program."""

from __future__ import annotations

import contextlib
import hashlib
import math
import secrets
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from edgepack.core.errors import EnvironmentProblem, UsageError
from edgepack.core.files import out_of_space_is_clear
from edgepack.devices import leftovers, shell
from edgepack.devices.adb_client import Streamed, adb_devices, call, last_line, stream, usable_serial
from edgepack.devices.inventory import Device
from edgepack.devices.protocol import DROPPED_VARIABLES, ONE_THREAD, CompletedRun, DeviceLost, RunTimeout
from edgepack.records import DeviceName

# /data/local/tmp is where Android's shell user may write and run programs; other systems with adbd may have none.
_PLACES = ("/data/local/tmp", "/tmp")
_ANSWER_S = 15.0  # a shell on a loaded emulator takes 3 s
_ALIVE_S = 40.0  # a device that runs out of memory takes that long to a word
_REAPPEARS_S = 6.0  # adb's server connects a network device again by itself
_NO_ANSWER = "it no longer answers: it is frozen or switched off, or its network is gone"
_NOT_EXECUTABLE = 126  # POSIX: found, but not executable
_SLOWEST_COPY_BYTES_PER_S = 200_000


class AdbTransport:
    """A Transport over adb; its Python is `device.python`, by default python3 on the device."""

    def __init__(self, serial: str = "", *, device: Device | None = None) -> None:
        """`serial` as `adb devices` shows it, or host:port; '' means the only device that there is."""
        self._serial = usable_serial(serial)
        self._device = device
        self._puts = 0
        self._folder = ""
        self._boot = ""
        self._lost: DeviceLost | None = None
        self._open()
        self._name = self._own_name() if device is None else device.name

    def describe(self) -> DeviceName:
        return DeviceName(transport="adb", name=self._name)

    @property
    def native_benchmark(self) -> Path | None:
        """The program that measures where the device has no Python, a file here, as devices.toml names it."""
        return None if self._device is None else self._device.native_benchmark

    def put(self, local: Path, *, companions: Sequence[Path] = ()) -> str:
        files = [local, *companions]
        self._puts += 1
        folder = f"{self._folder}/{self._puts:03d}"
        bytes_ = sum(file.stat().st_size for file in files)
        with self._lost_for_good():
            self._ask(f"mkdir {folder}")
            pushed = self._call(["push", *map(str, files), f"{folder}/"], timeout_s=_copy_s(bytes_))
            if pushed.returncode != 0:
                self._not_copied(f"{local.name}: can't be copied to it", pushed)
        return f"{folder}/{local.name}"

    def run(
        self, argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CompletedRun:
        word = f"edgepack-{secrets.token_hex(8)}"
        command = shell.run_watched(
            [self._python() if argv[0] == "python" else argv[0], *argv[1:]],
            folder=self._folder,
            environment=ONE_THREAD | self._python_path() | dict(environment or {}),
            unset=DROPPED_VARIABLES,
            word=word,
            limit_s=timeout_s,
        )
        with self._lost_for_good():
            streamed = stream(self._serial, command, timeout_s=timeout_s, answers=self._answers)
            if streamed.end == "late":
                self._kill_running(streamed.stdout)
                raise RunTimeout(f"'{' '.join(argv)}' did not end within {timeout_s:g} s", stdout=streamed.stdout)
            written, ending = self._ending(streamed, word)
        if ending.trouble == shell.NO_PROGRAM:
            raise EnvironmentProblem(f"{self._address}: {argv[0]}: can't be started on it: {self._no_program(argv[0])}")
        if ending.returncode == _NOT_EXECUTABLE and "Exec format error" in written:
            raise EnvironmentProblem(
                f"{self._address}: {argv[0]}: wrong architecture: this program is not for the device's processor; use one that was built for it"
            )
        notes = "".join(f"[edgepack] {note}\n" for note in ending.notes)
        return CompletedRun(returncode=ending.returncode, stdout=streamed.stdout, stderr=written + notes)

    def _ending(self, streamed: Streamed, word: str) -> tuple[str, shell.Ending]:
        """What a command that is over wrote to standard error, and how it ended. Raises DeviceLost when nothing tells."""
        if streamed.end == "silent":
            raise DeviceLost(f"{self._address}: {_NO_ANSWER}", stdout=streamed.stdout)
        written, ending = shell.ending_of(streamed.stderr, word)
        if ending is None:
            self._raise_lost(streamed.stdout)
        if ending.trouble == shell.NO_FOLDER:
            gone = f"{self._address}: its folder {self._folder} is gone: did it restart?"
            raise DeviceLost(gone, stdout=streamed.stdout)
        return written, ending

    def get(self, remote: str, local: Path) -> None:
        path = remote if remote.startswith("/") else f"{self._folder}/{remote}"
        with self._lost_for_good():
            asked = self._shell(f"stat -L -c %s {shlex.quote(path)}")
        if asked.returncode != 0:
            raise FileNotFoundError(f"{self._address}: no file {path} on it")
        with (
            self._lost_for_good(),
            tempfile.TemporaryDirectory(prefix="edgepack-", dir=local.parent) as folder,
            out_of_space_is_clear(local),
        ):
            arrived = Path(folder) / local.name
            pulled = self._call(["pull", path, str(arrived)], timeout_s=_copy_s(int(asked.stdout)))
            if pulled.returncode != 0:
                self._not_copied(f"{path}: can't be copied from it", pulled)
            arrived.replace(local)

    def close(self) -> None:
        folder, self._folder = self._folder, ""
        if not folder:
            return
        leftovers.give_up(folder.rpartition("/")[2])
        with contextlib.suppress(EnvironmentProblem, UsageError):  # it is gone: whoever opens it next cleans up
            usable_serial(self._serial)
            self._ask(shell.remove_folders([folder]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _address(self) -> str:
        return f"adb://{self._serial}"

    def _open(self) -> None:
        """Make the private folder, and remove those that nobody needs any more."""
        if "shell_v2" not in self._call(["features"], timeout_s=_ANSWER_S).stdout.split():
            raise EnvironmentProblem(
                f"{self._address}: its adbd is too old to tell exit codes (shell v2): it must run Android 7 or newer"
            )
        name = leftovers.new_folder_name()
        opened = self._shell(shell.open_folder(name, _PLACES))
        if opened.returncode != 0:
            raise EnvironmentProblem(
                f"{self._address}: no private folder could be made in {' or '.join(_PLACES)} "
                f"({last_line(opened.stderr)}); is its storage full, or the program 'setsid' missing?"
            )
        self._folder, self._boot, *others = opened.stdout.splitlines()
        base = self._folder.removesuffix(name)
        idle = [(other, float(seconds)) for other, _, seconds in (line.partition(" ") for line in others)]
        old = [base + other for other, idle_s in idle if leftovers.is_left_behind(other, idle_s=idle_s)]
        if old:
            self._ask(shell.remove_folders(old))

    def _own_name(self) -> str:
        """The model, and a digest that tells two of a kind apart without telling the serial."""
        asked = self._shell("getprop ro.product.model 2>/dev/null || hostname")
        model = asked.stdout.strip() or "Android"
        return f"{model} {hashlib.sha256(self._serial.encode()).hexdigest()[:6]}"

    def _python(self) -> str:
        return (self._device.python if self._device is not None else None) or "python3"

    def _python_path(self) -> dict[str, str]:
        folders = () if self._device is None else self._device.python_path
        return {"PYTHONPATH": ":".join(folders)} if folders else {}

    def _no_program(self, name: str) -> str:
        if name != "python":
            return "there is no such program"
        return (
            f"there is no Python ('{self._python()}'): name one with `python` in devices.toml, "
            "or measure with LiteRT's benchmark_model (`native_benchmark`, docs/devices.md)"
        )

    @contextlib.contextmanager
    def _lost_for_good(self) -> Iterator[None]:
        """A device that was lost stays so: what lay on it may be gone. Whoever wants to go on opens it again."""
        if self._lost is not None:
            raise DeviceLost(str(self._lost))
        try:
            yield
        except DeviceLost as exc:
            self._lost = exc
            raise

    def _kill_running(self, stdout: str) -> None:
        """After a timeout: the command is dead when this returns. Raises DeviceLost when the device doesn't answer."""
        try:
            self._ask(shell.kill_running(self._folder))
        except EnvironmentProblem:
            self._raise_lost(stdout)

    def _raise_lost(self, stdout: str) -> NoReturn:
        """Say what became of the device: rebooted, frozen, or out of reach. Nothing of ours goes on running where it still can be reached."""
        raise DeviceLost(f"{self._address}: {self._fate()}", stdout=stdout)

    def _fate(self) -> str:
        deadline = time.monotonic() + _REAPPEARS_S
        while (state := self._state()) != "device" and time.monotonic() < deadline:
            time.sleep(0.3)
        if state != "device":
            return f"the link broke: adb says '{state}'; it may be restarting; else check its cable or network, and its power"
        try:
            boot = self._shell("cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo unknown").stdout.strip()
            if boot != self._boot:
                return "it restarted while it was used"
            self._ask(shell.kill_running(self._folder))
        except EnvironmentProblem:
            return _NO_ANSWER
        return "the link broke while a command ran, and is back; the command was ended"

    def _state(self) -> str:
        with contextlib.suppress(EnvironmentProblem):
            for found in adb_devices():
                if found.serial == self._serial:
                    return found.state
        return "not found"

    def _answers(self) -> bool:
        try:
            return self._call(["shell", "-T", "true"], timeout_s=_ALIVE_S).returncode == 0
        except EnvironmentProblem:
            return False

    def _not_copied(self, what: str, failed: subprocess.CompletedProcess[str]) -> NoReturn:
        lines = [line for line in (failed.stderr + failed.stdout).splitlines() if "error:" in line]
        said = lines[0] if lines else last_line(failed.stderr)
        if "No space left on device" in said:
            raise EnvironmentProblem(f"{self._address}: {what}: its storage is full; free some in /data")
        if self._state() != "device" or not self._answers():
            raise DeviceLost(f"{self._address}: {what}: {self._fate()} ({said})")
        raise EnvironmentProblem(f"{self._address}: {what}: {said}")

    def _ask(self, script: str) -> str:
        """A short script that must go well; what it printed."""
        asked = self._shell(script)
        if asked.returncode != 0:
            said = last_line(asked.stderr)
            if "No space left on device" in said:
                said = "its storage is full; free some in /data"
            raise EnvironmentProblem(f"{self._address}: {said}")
        return asked.stdout

    def _shell(self, script: str) -> subprocess.CompletedProcess[str]:
        return self._call(["shell", "-T", script], timeout_s=_ANSWER_S)

    def _call(self, words: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
        try:
            return call(["-s", self._serial, *words], timeout_s=timeout_s)
        except DeviceLost as exc:
            raise DeviceLost(f"{self._address}: {_NO_ANSWER}") from exc


def _copy_s(bytes_: int) -> float:
    return _ANSWER_S + math.ceil(bytes_ / _SLOWEST_COPY_BYTES_PER_S)
