"""The one connection to a device: an ssh process that is at once the multiplexing master and the keeper's line, watched so that a loss is noticed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.core.errors import EnvironmentProblem
from edgepack.devices.protocol import DeviceLost
from edgepack.devices.ssh.failures import connection_failure, python_failure, tail

CONFIG_VARIABLE = "EDGEPACK_SSH_CONFIG"
_BOOTSTRAP = "import sys,json;exec(json.loads(sys.stdin.readline()))"
# Modules beside this one that run on the device; each may import those before it, the last one has the keeper's `main`.
_ON_DEVICE = ("private_folder", "keeper")
_LOAD = """
import sys, types
for name, source in {sources!r}.items():
    sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), sys.modules[name].__dict__)
sys.modules[name].main({config!r})
"""
_SOCKET_PATH_MAX = 80  # sun_path holds 108 bytes on Linux, 104 elsewhere; ssh adds 17 while it makes the socket
_PYTHON_OLDEST = (3, 9)
_END_LIMIT_S = 8.0
_DEVICE_PATIENCE_S = 60.0  # so long does the device wait for a host that went away without a word
# What a user's config may say for a terminal, and what would disturb here.
_OPTIONS = {
    "BatchMode": "yes",
    "ControlPersist": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "LogLevel": "ERROR",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a device is, which Python it has, and how long to wait for it."""

    address: str
    host: str
    user: str | None
    port: int | None
    python: str
    lost_after_s: float
    connect_s: float


class Link:
    """Opened by the constructor: raises EnvironmentProblem with the reason. `hello` is what the device said of itself."""

    def __init__(self, place: Place) -> None:
        self._place, self.address = place, place.address
        self._lost_after_s = place.lost_after_s
        self._folder = tempfile.TemporaryDirectory(prefix="edgepack-ssh-", dir=_short_folder())
        self.scratch = Path(self._folder.name)
        self._config = ["-F", os.environ[CONFIG_VARIABLE]] if os.environ.get(CONFIG_VARIABLE) else []
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._said = b""
        self._heard = time.monotonic()
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._process = self._start()
        try:
            self.hello = self._greeting()
        except BaseException:
            self.abandon()
            raise
        threading.Thread(target=self._beat, daemon=True).start()

    @property
    def options(self) -> list[str]:
        """Options for ssh and sftp. The user's own config is read as always, but for what would disturb."""
        alive = {"ServerAliveInterval": str(max(1, int(self._lost_after_s / 3))), "ServerAliveCountMax": "3"}
        given = _OPTIONS | alive | {"ConnectTimeout": str(max(1, int(self._place.connect_s)))}
        place = {"User": self._place.user, "Port": None if self._place.port is None else str(self._place.port)}
        given |= {name: value for name, value in place.items() if value is not None}
        return self._config + [word for name, value in given.items() for word in ("-o", f"{name}={value}")]

    @property
    def sftp_target(self) -> list[str]:
        host = self._place.host
        return ["--", f"[{host}]" if ":" in host else host]

    @property
    def socket(self) -> Path:
        return self.scratch / "s"

    def _start(self) -> subprocess.Popen[bytes]:
        remote = "exec " + shlex.join([self._place.python, "-c", _BOOTSTRAP])
        command = [
            "ssh",
            *self.options,
            "-o",
            "ControlMaster=yes",
            "-S",
            str(self.socket),
            "--",
            self._place.host,
            remote,
        ]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for edgepack, which ends the connection in order
            )
        except OSError as exc:
            self._folder.cleanup()
            raise EnvironmentProblem(
                f"{self.address}: 'ssh' can't be started on this machine: {exc.strerror}; install the OpenSSH client"
            ) from exc
        threading.Thread(target=self._read, args=(process,), daemon=True).start()
        self._errors = threading.Thread(target=self._read_errors, args=(process,), daemon=True)
        self._errors.start()
        return process

    def _greeting(self) -> dict[str, Any]:
        config = {"lost_after_s": max(3 * self._lost_after_s, _DEVICE_PATIENCE_S)}
        self._write(_program(config))
        limit_s = self._place.connect_s + self._lost_after_s
        deadline = time.monotonic() + limit_s
        try:
            while (message := self._messages.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
                if "hello" in message:
                    return _checked(self._place, message["hello"])
                if "refused" in message:
                    raise EnvironmentProblem(
                        f"{self.address}: the device has no place for edgepack's files: {message['refused']}; make room there"
                    )
        except queue.Empty:
            raise EnvironmentProblem(
                f"{self.address}: connected, but the device's Python does not answer within {limit_s:g} s; "
                f"try 'ssh {self._place.host} {self._place.python} --version'"
            ) from None
        raise self._why_not()

    def _why_not(self) -> EnvironmentProblem:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
            self._errors.join(timeout=2)
        code = self._process.returncode
        if code == 255 or code is None:  # ssh's own failures
            who = self._place.host if self._place.user is None else f"{self._place.user}@{self._place.host}"
            port = [] if self._place.port is None else ["-p", str(self._place.port)]
            command = shlex.join(["ssh", *self._config, *port, who])
            return connection_failure(self.address, self._place.host, command=command, said=self.said)
        return python_failure(self.address, python=self._place.python, code=code, said=self.said)

    @property
    def said(self) -> str:
        """What ssh wrote to its error stream."""
        return self._said.decode(errors="replace")

    def check(self) -> None:
        """Raises DeviceLost when the link has ended."""
        if self._ended.is_set():
            raise DeviceLost(f"{self.address}: {self._how_it_ended()}")

    def order(self, do: str, **values: Any) -> None:
        """Send one order to the keeper. Raises DeviceLost."""
        self._write({"do": do, "with": values})

    def ask(self, do: str, *, limit_s: float = 60, **values: Any) -> dict[str, Any]:
        """An order and its answer. Raises DeviceLost, and the OSError that the keeper met."""
        self.order(do, **values)
        deadline = time.monotonic() + limit_s
        while True:
            message = self.next_message(deadline - time.monotonic())
            if message is None:
                raise DeviceLost(f"{self.address}: the device didn't answer within {limit_s:g} s")
            if "answer" in message:
                answer: dict[str, Any] = message["answer"]
                if answer.get("errno") is not None:
                    raise OSError(answer["errno"], answer["error"], answer.get("path"))
                return answer

    def next_message(self, limit_s: float) -> dict[str, Any] | None:
        """The keeper's next message, None after `limit_s`. Raises DeviceLost when the link has ended."""
        try:
            message = self._messages.get(timeout=max(0.0, limit_s))
        except queue.Empty:
            return None
        if message is None:
            self._messages.put(None)  # for whoever asks next
            raise DeviceLost(f"{self.address}: {self._how_it_ended()}")
        return message

    def _how_it_ended(self) -> str:
        """In words, for a link that is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
            self._errors.join(timeout=2)
        said = tail(self.said)
        if time.monotonic() - self._heard > self._lost_after_s:
            return f"the device has not answered for {self._lost_after_s:g} s"
        return "the connection ended" + (f": {said}" if said else "")

    def _write(self, value: object) -> None:
        line = json.dumps(value).encode() + b"\n"
        assert self._process.stdin is not None
        try:
            with self._writing:
                self._process.stdin.write(line)
                self._process.stdin.flush()
        except (OSError, ValueError):  # the reader sees the end, and says why
            self._ended.set()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in process.stdout:
                self._heard = time.monotonic()
                if (
                    line.startswith(b"{") and b'"beat"' not in line[:8]
                ):  # a login script of the device may write here, too
                    with contextlib.suppress(json.JSONDecodeError):
                        self._messages.put(json.loads(line))
        self._ended.set()
        self._messages.put(None)

    def _read_errors(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            for line in process.stderr:
                self._said = (self._said + line)[-8192:]

    def _beat(self) -> None:
        """A sign of life to the keeper, and a look at whether it gives some."""
        while not self._ended.wait(self._lost_after_s / 6):
            self._write({"do": "beat"})
            if time.monotonic() - self._heard > self._lost_after_s:
                self._process.kill()

    def end(self) -> None:
        """Let the keeper remove everything, then close the connection; bounded, and fine for a link that is gone."""
        try:
            if not self._ended.is_set():
                with contextlib.suppress(DeviceLost, OSError):
                    self.ask("end", limit_s=_END_LIMIT_S)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close this end. The keeper sees it, and removes everything on its own."""
        self._ended.set()
        process = self._process
        with contextlib.suppress(OSError), self._writing:
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._folder.cleanup()


def _short_folder() -> str | None:
    """A folder for the socket, whose whole path is limited."""
    usual = tempfile.gettempdir()
    return usual if len(usual) < _SOCKET_PATH_MAX - len("/edgepack-ssh-12345678/s") else "/tmp"


def _program(config: dict[str, Any]) -> str:
    """What the device is sent as one text: the modules, under the names that they import each other by, and the call of the keeper."""
    files = {f"edgepack.devices.ssh.{name}": Path(__file__).with_name(f"{name}.py") for name in _ON_DEVICE}
    sources = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    return _LOAD.format(sources=sources, config=config)


def _checked(place: Place, hello: dict[str, Any]) -> dict[str, Any]:
    version: Sequence[int] = hello["python"]
    if tuple(version[:2]) < _PYTHON_OLDEST:
        raise EnvironmentProblem(
            f"{place.address}: '{place.python}' on the device is Python {'.'.join(map(str, version))}; 3.9 or newer is needed: "
            "install one, or name it with 'python' in devices.toml"
        )
    return hello
