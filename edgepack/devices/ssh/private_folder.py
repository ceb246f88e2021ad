"""A folder on the device that is locked for as long as its keeper lives, and that nothing outlives: no file in it, no process of it.

Every process that a command starts carries the folder's name in its environment, however far it moves away. What a keeper that was itself
killed has left (its lock is free) is removed by the next one of the same user. Runs on the device, as `keeper` does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import stat
import time

MARK = "EDGEPACK_DEVICE_FOLDER"
KILL_LIMIT_S = 5.0


def base_folder() -> str:
    """This user's folder for all connections; /var/tmp first, because /tmp is often memory. Raises OSError."""
    for parent in ("/var/tmp", "/tmp", os.path.expanduser("~")):
        base = f"{parent}/edgepack-{os.getuid()}"
        with contextlib.suppress(OSError):
            os.mkdir(base, 0o700)
        with contextlib.suppress(OSError):
            found = os.lstat(base)
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and os.access(base, os.W_OK | os.X_OK):
                os.chmod(base, 0o700)
                return base
    raise OSError(errno.EACCES, "no folder can be written", "/var/tmp, /tmp or the home folder")


def lock(path: str, *, wait: bool) -> int | None:
    """An open file that holds the lock, None where another process has it. The lock ends with its process."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        return None
    return handle


def guarded_base() -> tuple[str, int]:
    """This user's folder, and the lock that lets nobody else come or go; the last one to leave removes both."""
    for _ in range(100):
        base = base_folder()
        with contextlib.suppress(FileNotFoundError):
            guard = lock(f"{base}/.lock", wait=True)
            assert guard is not None
            with contextlib.suppress(FileNotFoundError):
                if os.stat(f"{base}/.lock").st_ino == os.fstat(guard).st_ino:
                    return base, guard
            os.close(guard)
    raise OSError(errno.EBUSY, "another edgepack keeps removing it", base)


def remove_base(base: str) -> None:
    """Remove the folder of all connections, unless another one is open or opens now."""
    with contextlib.suppress(OSError):
        guard = lock(f"{base}/.lock", wait=False)
        if guard is not None:
            if os.listdir(base) == [".lock"]:
                os.unlink(f"{base}/.lock")
                os.rmdir(base)
            os.close(guard)


def remove_left_behind(base: str) -> list[str]:
    """Remove the folders, and kill the processes, of keepers that are gone."""
    removed = []
    for name in sorted(os.listdir(base)):
        folder = f"{base}/{name}"
        if not name.startswith("at-") or not stat.S_ISDIR(os.lstat(folder).st_mode):
            continue
        held = lock(f"{folder}/.lock", wait=False)
        if held is not None:
            kill_all_of(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)
            removed.append(name)
    return removed


def processes_of(folder: str) -> list[int]:
    """Every process that a command in this folder started, however far it moved away."""
    wanted = f"{MARK}={folder}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(int(name))
    return found


def kill_all_of(folder: str) -> list[str]:
    """Kill them until none is left, for a bounded time; the state letters that they were in ('T': stopped)."""
    states: list[str] = []
    deadline = time.monotonic() + KILL_LIMIT_S
    for attempt in range(1000):
        found = processes_of(folder)
        if not found or (time.monotonic() > deadline and attempt > 50):
            break
        for pid in found:
            if attempt == 0:
                states.append((text_of(f"/proc/{pid}/stat") or "?) ?").rpartition(")")[2].split()[0])
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return states


def text_of(path: str) -> str | None:
    """A small file's text, None where it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None
