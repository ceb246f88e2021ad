"""Private folders on a device say whose they are, so that what a killed edgepack left there is found and removed."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from pathlib import Path

# A folder of another computer counts as left behind after a day in which nothing ran in it.
_ABANDONED_AFTER_S = 24 * 3600
_in_use: set[str] = set()  # of this process
_NAME = re.compile(r"edgepack-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-(?P<started>\d+)-[0-9a-f]{8}")


def new_folder_name() -> str:
    """A name for a private folder on a device: edgepack-HOST-PROCESS-STARTED-RANDOM. It tells no host name."""
    process = os.getpid()
    name = f"edgepack-{_host()}-{process}-{_started(process) or 0}-{secrets.token_hex(4)}"
    _in_use.add(name)
    return name


def give_up(name: str) -> None:
    """A folder is no longer used, whether or not it could be removed: whoever opens the device next may."""
    _in_use.discard(name)


def is_left_behind(name: str, *, idle_s: float) -> bool:
    """Whether a folder on a device belongs to nobody: its process here has ended, or, of another computer, nothing happened in it for a day."""
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    if match["host"] == _host():
        if int(match["process"]) == os.getpid() and name not in _in_use:
            return True
        return (_started(int(match["process"])) or 0) != int(match["started"])
    return idle_s > _ABANDONED_AFTER_S


def _host() -> str:
    """This computer, or the container in it whose process numbers we see; a digest, so that a device learns no name."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    try:
        processes = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        processes = ""
    return hashlib.sha256(f"{machine} {socket.gethostname()} {processes}".encode()).hexdigest()[:8]


def _started(process: int) -> int | None:
    """When a process began, in clock ticks since boot: field 22 of /proc/PID/stat (proc(5)); None when there is none."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
