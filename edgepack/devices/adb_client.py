"""Google's `adb` program: which devices it sees, and commands to one of them.

docs/decisions/0007-adb-program.md says why the program and not a library.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgepack.core.errors import EnvironmentProblem, UsageError
from edgepack.devices.protocol import DeviceLost

_SERVER_START_S = 30.0  # `adb` starts its server when none runs
_CONNECT_S = 15.0
_SILENT_S = 10.0  # after so long without a word from a command, ask whether the device is still there
_LINE = re.compile(r"(?P<serial>\S+)\s+(?P<state>no permissions[^\[]*(?:\[[^\]]*\])?|\S+)(?P<facts>(?:\s+\S+:\S+)*)\s*")
_NETWORK = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}")
_REMEDIES: Mapping[str, str] = {
    "unauthorized": "it does not trust this computer: unlock it and accept 'Allow USB debugging?'; 'adb kill-server' makes it ask again",
    "authorizing": "it is just deciding whether to trust this computer: try again in a few seconds",
    "connecting": "it is just being connected: try again in a few seconds",
    "offline": "it does not answer: reconnect its cable, or run 'adb reconnect offline', or restart it",
    "no permissions": "this user may not open its USB device: install the package android-sdk-platform-tools-common (udev rules) and join the group plugdev",
    "recovery": "it is in recovery mode: restart it with 'adb reboot'",
    "sideload": "it is in sideload mode: restart it with 'adb reboot'",
    "bootloader": "it is in its bootloader: restart it with 'fastboot reboot'",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdbDevice:
    """A line of `adb devices -l`; `state` is 'device' where it can be used."""

    serial: str
    state: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def trouble(self) -> str | None:
        """What keeps it from being used, with what to do; None when nothing does."""
        if self.state == "device":
            return None
        kind = "no permissions" if self.state.startswith("no permissions") else self.state
        return f"{kind}: {_REMEDIES.get(kind, 'restart it')}"


def adb_devices() -> tuple[AdbDevice, ...]:
    """Every device that adb knows. Raises EnvironmentProblem when there is no adb program."""
    listed = call(["devices", "-l"], timeout_s=_SERVER_START_S)
    if listed.returncode != 0:
        raise EnvironmentProblem(f"adb devices: {last_line(listed.stderr)}; try 'adb kill-server'")
    return parsed(listed.stdout)


def parsed(listing: str) -> tuple[AdbDevice, ...]:
    """The devices in the output of `adb devices -l`."""
    lines = listing.partition("List of devices attached")[2].splitlines()
    matches = [match for line in lines if (match := _LINE.fullmatch(line)) is not None]
    return tuple(
        AdbDevice(
            serial=match["serial"],
            state=match["state"].strip(),
            facts=dict(fact.split(":", 1) for fact in match["facts"].split()),
        )
        for match in matches
    )


def usable_serial(serial: str) -> str:
    """The serial of a device that can be used now; '' means the only one. 'host:port' is connected when it isn't yet.

    Raises EnvironmentProblem with the device's state and what to do, UsageError for a serial that adb doesn't know.
    """
    known = adb_devices()
    if not serial:
        return _only(known)
    found = _find(known, serial)
    if _NETWORK.fullmatch(serial) and (found is None or found.state == "offline"):
        found = _connect(serial, stale=found is not None)
    if found is None:
        names = f" (known: {', '.join(device.serial for device in known)})" if known else "; adb sees no device at all"
        raise UsageError(f"adb://{serial}: adb knows no such device{names}; 'adb devices -l' lists them")
    if found.trouble is not None:
        raise EnvironmentProblem(f"adb://{serial}: {found.trouble}")
    return serial


def _only(known: Sequence[AdbDevice]) -> str:
    if not known:
        raise EnvironmentProblem(
            "adb://: adb sees no device: connect one with USB debugging switched on, or name its network address (adb://host:5555)"
        )
    if len(known) > 1:
        raise UsageError(
            f"adb://: there is more than one device: name one, for example adb://{known[0].serial} "
            f"(known: {', '.join(device.serial for device in known)})"
        )
    if known[0].trouble is not None:
        raise EnvironmentProblem(f"adb://{known[0].serial}: {known[0].trouble}")
    return known[0].serial


def _connect(serial: str, *, stale: bool) -> AdbDevice | None:
    if stale:
        call(["disconnect", serial], timeout_s=_CONNECT_S)
    connected = call(["connect", serial], timeout_s=_CONNECT_S)
    if "connected to" not in connected.stdout:  # adb before version 30 ends with 0 when it fails, too
        reason = last_line(connected.stdout) or last_line(connected.stderr)
        raise EnvironmentProblem(
            f"adb://{serial}: {reason}; is the device on, in this network, and does its adbd listen there ('adb tcpip 5555')?"
        )
    return _find(adb_devices(), serial)


def _find(known: Sequence[AdbDevice], serial: str) -> AdbDevice | None:
    return next((device for device in known if device.serial == serial), None)


def program() -> str:
    """The adb program. Raises EnvironmentProblem when there is none."""
    if (found := shutil.which("adb")) is None:
        raise EnvironmentProblem(
            "adb: no such program on this machine; install Debian's package 'adb' or Android's platform-tools, and put it on the PATH"
        )
    return found


def call(words: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """One call of the adb program. Raises DeviceLost when it takes longer than `timeout_s`."""
    try:
        return subprocess.run(
            [program(), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise DeviceLost(f"adb {words[0]}: no answer within {timeout_s:g} s") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What a shell command wrote until it ended by itself, the time was up ('late'), or it was silent and the device didn't answer ('silent').

    'ended' may mean that the link broke: `adb shell` ends with 0 then, so that what the command wrote must tell.
    """

    stdout: str
    stderr: str
    end: Literal["ended", "late", "silent"]


def stream(serial: str, command: str, *, timeout_s: float, answers: Callable[[], bool]) -> Streamed:
    """Run a shell command and keep all that it writes, also when it doesn't end well. Our end of its input stays open as long as we are there."""
    deadline = time.monotonic() + timeout_s
    input_of_it, our_end = os.pipe()
    try:
        process = subprocess.Popen(
            [program(), "-s", serial, "shell", "-T", command],
            stdin=input_of_it,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                return _collected(process, deadline, answers)
            finally:
                process.kill()
    finally:
        os.close(input_of_it)
        os.close(our_end)


def _collected(process: subprocess.Popen[bytes], deadline: float, answers: Callable[[], bool]) -> Streamed:
    heard = 0
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        try:
            stdout, stderr = process.communicate(timeout=min(left_s, _SILENT_S))
        except subprocess.TimeoutExpired as exc:
            so_far = len(exc.stdout or b"")
            if left_s <= _SILENT_S:
                return Streamed(stdout=_text(exc.stdout), stderr=_text(exc.stderr), end="late")
            if so_far == heard and not answers():
                return Streamed(stdout=_text(exc.stdout), stderr=_text(exc.stderr), end="silent")
            heard = so_far
        else:
            return Streamed(stdout=_text(stdout), stderr=_text(stderr), end="ended")


def _text(written: bytes | str | None) -> str:
    return written.decode(errors="replace") if isinstance(written, bytes) else written or ""


def last_line(text: str) -> str:
    """What a program said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
