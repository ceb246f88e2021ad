"""Runs on the device for as long as the connection lasts: starts commands, streams what they write, and leaves nothing behind.

Sent over the connection together with `private_folder` and run by the device's Python (3.9 or newer, standard library only). Lines of JSON
go both ways, one object each; the first one in holds both modules. It sleeps in `select` while a command runs, so that it doesn't disturb a measurement.

When the link ends (end of input, or no sign of life for `lost_after_s`), the keeper removes its private folder and all that was started in it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from edgepack.devices.ssh.private_folder import (
    KILL_LIMIT_S,
    MARK,
    guarded_base,
    kill_all_of,
    lock,
    remove_base,
    remove_left_behind,
    text_of,
)

CHUNK_BYTES = 65536
HELD_BYTES_MAX = 1 << 20  # more is left in the command's pipe until the link has taken it
FULL_BYTES = 1 << 20
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def number_in(path: str, name: str) -> int | None:
    """The number that follows `name` in a file of names and numbers."""
    for line in (text_of(path) or "").splitlines():
        words = line.replace(":", " ").split()
        if words and words[0] == name:
            return int(words[1])
    return None


def facts(folder: str) -> dict[str, Any]:
    """What the host wants to know of the device at any time."""
    disk = os.statvfs(folder)
    return {
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "memory_free_bytes": (number_in("/proc/meminfo", "MemAvailable") or 0) * 1024 or None,
        "oom_kills": number_in("/proc/vmstat", "oom_kill"),
        "wall_minus_monotonic_s": time.time() - time.monotonic(),
    }


class Keeper:
    """The private folder, at most one command in it, and the two directions of the link."""

    def __init__(self, config: dict[str, Any]) -> None:
        # Where idle time passes at once, a time limit says nothing about the link; its end still does.
        counts_instructions = "edgepack.clock=instructions" in (text_of("/proc/cmdline") or "").split()
        self.lost_after_s: float | None = None if counts_instructions else config["lost_after_s"]
        self.base, guard = guarded_base()
        self.left_behind = remove_left_behind(self.base)
        self.folder = f"{self.base}/at-{os.getpid()}-{time.monotonic_ns():x}"
        os.mkdir(self.folder, 0o700)
        self.held = lock(f"{self.folder}/.lock", wait=False)
        os.close(guard)
        self.child: subprocess.Popen[bytes] | None = None
        self.before: dict[str, Any] = {}
        self.pipes: dict[int, str] = {}
        self.out = b"\n"  # ends what a login script may have written
        self.input = b""
        self.heard = time.monotonic()
        self.wake, wake_end = os.pipe()
        for handle in (self.wake, wake_end, 1):
            os.set_blocking(handle, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(1))

    def say(self, **message: Any) -> None:
        self.out += json.dumps(message).encode() + b"\n"

    def hello(self) -> None:
        libc, libc_version = platform.libc_ver()
        self.say(
            hello={
                "folder": self.folder,
                "home": os.path.expanduser("~"),
                "machine": platform.machine(),
                "python": list(sys.version_info[:3]),
                "implementation": sys.implementation.name,
                "libc": [libc, libc_version],
                "name": platform.node(),
                "boot_id": text_of(BOOT_ID),
                "left_behind": self.left_behind,
                **facts(self.folder),
            }
        )

    def serve(self) -> None:
        """Until the link ends."""
        while self.step():
            pass

    def step(self) -> bool:
        readable = [0, self.wake] + ([] if len(self.out) > HELD_BYTES_MAX else list(self.pipes))
        ready, writable, _ = select.select(readable, [1] if self.out else [], [], self.patience_s())
        if writable:
            try:
                self.out = self.out[os.write(1, self.out[:CHUNK_BYTES]) :]
            except BlockingIOError:
                pass
            except OSError:
                return False
        for handle in ready:
            if handle in self.pipes:
                self.forward(handle)
        if self.wake in ready:
            os.read(self.wake, CHUNK_BYTES)
            self.reap()
        if 0 in ready:
            return self.listen()
        return self.lost_after_s is None or time.monotonic() - self.heard < self.lost_after_s

    def patience_s(self) -> float | None:
        return None if self.lost_after_s is None else max(0.1, self.heard + self.lost_after_s - time.monotonic())

    def listen(self) -> bool:
        data = os.read(0, CHUNK_BYTES)
        self.heard = time.monotonic()
        *lines, self.input = (self.input + data).split(b"\n")
        goes_on = [self.obey(json.loads(line)) for line in lines]
        return bool(data) and all(goes_on)

    def obey(self, order: dict[str, Any]) -> bool:
        """One order; False for the last. A failure is told, not raised."""
        try:
            answer = getattr(self, "do_" + order["do"])(**order.get("with", {}))
        except OSError as exc:
            answer = {"errno": exc.errno, "error": exc.strerror, "path": exc.filename}
        if answer is not None:
            self.say(answer=answer)
        return bool(order["do"] != "end")

    def do_beat(self) -> None:
        self.say(beat=True)

    def do_facts(self) -> dict[str, Any]:
        return facts(self.folder)

    def do_make(self, path: str) -> dict[str, Any]:
        os.makedirs(path, 0o700, exist_ok=True)
        return {}

    def do_move(self, source: str, target: str) -> dict[str, Any]:
        os.replace(source, target)
        return {}

    def do_exists(self, path: str) -> dict[str, Any]:
        return {"exists": os.path.exists(path)}

    def do_show(self, path: str, at: str) -> dict[str, Any]:
        """Make a file reachable under a name that needs no quoting."""
        with open(path, "rb"):  # tells now whether it is there and may be read
            os.symlink(os.path.abspath(path), at)
        return {}

    def do_remove(self, path: str) -> dict[str, Any]:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
        return {}

    def do_run(self, argv: list[str], environment: dict[str, str], dropped: list[str]) -> None:
        command = [sys.executable if argv[0] == "python" else argv[0], *argv[1:]]
        known = {name: value for name, value in os.environ.items() if name not in dropped}
        self.before = facts(self.folder)
        self.child = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**known, **environment, MARK: self.folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        # When memory runs out it is the command that goes, not the device's own services, nor its keeper.
        with contextlib.suppress(OSError), open(f"/proc/{self.child.pid}/oom_score_adj", "w") as file:
            file.write("1000")
        assert self.child.stdout is not None and self.child.stderr is not None
        self.pipes = {self.child.stdout.fileno(): "stdout", self.child.stderr.fileno(): "stderr"}

    def do_kill(self) -> dict[str, Any]:
        return {"running": self.child is not None, "states": kill_all_of(self.folder)}

    def do_end(self) -> dict[str, Any]:
        self.clean_up()
        return {}

    def forward(self, handle: int) -> None:
        data = os.read(handle, CHUNK_BYTES)
        if data:
            self.say(wrote=self.pipes[handle], data=base64.b64encode(data).decode())
        else:
            del self.pipes[handle]

    def reap(self) -> None:
        """When the command has ended, so has all that it started; then the rest of what it wrote goes home."""
        if self.child is None or self.child.poll() is None:
            return
        kill_all_of(self.folder)
        # A process that dropped its whole environment may hold the pipes; it isn't waited for.
        while self.pipes and (ready := select.select(list(self.pipes), [], [], 0.5)[0]):
            for handle in ready:
                self.forward(handle)
        self.pipes = {}
        for pipe in (self.child.stdout, self.child.stderr):
            if pipe is not None:
                pipe.close()
        after = facts(self.folder)
        self.say(
            exit=self.child.returncode, before=self.before, after=after, is_full=after["disk_free_bytes"] < FULL_BYTES
        )
        self.child = None

    def clean_up(self) -> None:
        kill_all_of(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        remove_base(self.base)

    def flush(self) -> None:
        """The last words, for a bounded time."""
        deadline = time.monotonic() + KILL_LIMIT_S
        while self.out and time.monotonic() < deadline and select.select([], [1], [], KILL_LIMIT_S)[1]:
            try:
                self.out = self.out[os.write(1, self.out) :]
            except BlockingIOError:
                continue
            except OSError:
                break


def main(config: dict[str, Any]) -> None:
    """Serve until the link ends, then leave nothing."""
    try:
        keeper = Keeper(config)
    except OSError as exc:
        print(json.dumps({"refused": f"{exc.filename}: {exc.strerror}"}), flush=True)
        return
    try:
        keeper.hello()
        keeper.serve()
    finally:
        keeper.clean_up()
        keeper.flush()
