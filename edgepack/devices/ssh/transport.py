"""A device that OpenSSH reaches: `ssh://[user@]host[:port]`, with the user's own config, keys and known hosts."""

from __future__ import annotations

import base64
import contextlib
import errno
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from edgepack.core.errors import EnvironmentProblem, UsageError
from edgepack.core.files import out_of_space_is_clear
from edgepack.devices.protocol import DROPPED_VARIABLES, ONE_THREAD, CompletedRun, DeviceLost
from edgepack.devices.ssh.failures import sftp_failure
from edgepack.devices.ssh.link import Link
from edgepack.records import DeviceName

_SLOWEST_LINK_BYTES_PER_S = 20_000
_KILL_LIMIT_S = 15.0
_CLOCK_JUMP_S = 2.0
_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class _Written:
    """What a command wrote, as it came home."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)

    def add(self, message: Mapping[str, Any]) -> None:
        getattr(self, message["wrote"]).extend(base64.b64decode(message["data"]))

    @property
    def stdout_text(self) -> str:
        return self.stdout.decode(errors="replace")


class SshTransport:
    """A Transport over one connection. A device that is silent for `lost_after_s` is lost; then what it did may be asked for another `lost_after_s`.

    After DeviceLost the transport stays lost: the device has removed the private folder; open another one to go on.
    """

    def __init__(
        self,
        host: str,
        *,
        user: str | None = None,
        port: int | None = None,
        name: str | None = None,
        python: str | None = None,
        python_path: Sequence[str] = (),
        lost_after_s: float = 30.0,
        connect_s: float = 15.0,
    ) -> None:
        if not host or host.startswith("-"):
            raise UsageError(f"ssh://{host}: no host; write ssh://[user@]host[:port]")
        self._address = f"ssh://{f'{user}@' if user else ''}{host}{f':{port}' if port else ''}"
        self._python_path = tuple(python_path)
        self._lost_after_s = lost_after_s
        self._open = lambda: Link(
            address=self._address,
            host=host,
            user=user,
            port=port,
            python=python or "python3",
            lost_after_s=lost_after_s,
            connect_s=connect_s,
        )
        self._link = self._open()
        self._name = name or str(self._link.hello["name"])
        self._folder = PurePosixPath(self._link.hello["folder"])
        self._copies = 0

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the device said of itself: machine, python, libc, boot_id, home, what an earlier connection had left behind."""
        return self._link.hello

    def describe(self) -> DeviceName:
        return DeviceName(transport="ssh", name=self._name)

    def put(self, local: Path, *, companions: Sequence[Path] = ()) -> str:
        files = (local, *companions)
        self._check_space(files)
        self._copies += 1
        folder = self._folder / f"{self._copies:03d}"
        with self._explaining(f"copying {local.name}"):
            self._link.ask("make", path=str(folder))
            for file in files:
                self._sftp_put(file, folder)
        return str(folder / local.name)

    def _sftp_put(self, file: Path, folder: PurePosixPath) -> None:
        """sftp sees only names of ours, so that nothing needs quoting."""
        link = self._link.scratch / "put"
        link.unlink(missing_ok=True)
        link.symlink_to(file.absolute())
        self._sftp(f"put {link} {folder}/.part", size_bytes=file.stat().st_size, doing=f"copying {file.name} to it")
        self._link.ask("move", source=f"{folder}/.part", target=str(folder / file.name))

    def get(self, remote: str, local: Path) -> None:
        self._copies += 1
        shown, here = self._folder / f".get-{self._copies}", self._link.scratch / "get"
        with self._explaining(f"copying {remote}"):
            self._link.ask("show", path=str(self._folder / remote), at=str(shown))
            try:
                self._sftp(f"get {shown} {here}", size_bytes=1 << 30, doing=f"copying {remote} from it")
            finally:
                self._link.ask("remove", path=str(shown))
        with out_of_space_is_clear(local):
            local.write_bytes(here.read_bytes())
        here.unlink()

    def _sftp(self, batch: str, *, size_bytes: int, doing: str) -> None:
        """One copy over the open connection; ended when the device is lost, or when it takes impossibly long."""
        socket = ["-o", "ControlMaster=no", "-o", f"ControlPath={self._link.socket}"]
        command = ["sftp", "-q", "-b", "-", *self._link.options(), *socket, *self._link.sftp_target]
        deadline = time.monotonic() + 60 + size_bytes / _SLOWEST_LINK_BYTES_PER_S
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        with process:
            try:
                said = self._wait_for(process, batch + "\n", deadline)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            self._check_alive()
            raise sftp_failure(self._address, doing=doing, said=said)

    def _wait_for(self, process: subprocess.Popen[str], batch: str, deadline: float) -> str:
        text: str | None = batch
        while True:
            try:
                return process.communicate(text, timeout=0.5)[1]
            except subprocess.TimeoutExpired:
                text = None
                self._check_alive()
                if time.monotonic() > deadline:
                    raise EnvironmentProblem(
                        f"{self._address}: a file is being copied for too long; check the device's disk and the network"
                    ) from None

    def run(
        self, argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CompletedRun:
        paths = {"PYTHONPATH": ":".join(self._python_path)} if self._python_path else {}
        self._check_alive()
        written = _Written()
        deadline = time.monotonic() + timeout_s
        try:
            self._link.order(
                "run", argv=list(argv), environment={**ONE_THREAD, **paths, **(environment or {})}, dropped=DROPPED_VARIABLES
            )
            while (message := self._link.next_message(deadline - time.monotonic())) is not None:
                if "wrote" in message:
                    written.add(message)
                elif "exit" in message:
                    return _completed(message, written)
                elif "answer" in message:
                    raise _not_started(self._address, argv[0], message["answer"], str(self.facts["machine"]))
            raise self._too_slow(argv, timeout_s, written)
        except DeviceLost as exc:
            raise self._what_happened(exc, written.stdout_text) from exc
        except BaseException:
            self._kill(written)
            raise

    def _too_slow(self, argv: Sequence[str], timeout_s: float, written: _Written) -> TimeoutError:
        states = self._kill(written)
        why = "; it had been stopped (SIGSTOP, or a debugger)" if states and set(states) <= {"T", "t"} else ""
        error = TimeoutError(f"'{' '.join(argv)}' did not end within {timeout_s:g} s{why}")
        error.stdout = written.stdout_text  # type: ignore[attr-defined]  # the protocol says so
        return error

    def _kill(self, written: _Written) -> list[str]:
        """End the command and all that it started; the states that its processes were in."""
        states: list[str] = []
        deadline = time.monotonic() + _KILL_LIMIT_S
        with contextlib.suppress(DeviceLost):
            self._link.order("kill")
            while (message := self._link.next_message(deadline - time.monotonic())) is not None:
                if "wrote" in message:
                    written.add(message)
                elif "answer" in message:
                    states = message["answer"].get("states", [])
                    if not states:
                        break
                elif "exit" in message:
                    break
        return states

    def _check_space(self, files: Sequence[Path]) -> None:
        needed = sum(file.stat().st_size for file in files)
        with self._explaining("copying files"):
            free = self._link.ask("facts")["disk_free_bytes"]
        if needed > free:
            raise EnvironmentProblem(
                f"{self._address}: not enough disk space on the device for {files[0].name}: {needed / 1e6:.1f} MB are needed, "
                f"{free / 1e6:.1f} MB are free in {self._folder.parent}; free some there"
            )

    def _check_alive(self) -> None:
        if not self._link.is_alive:
            raise self._what_happened(DeviceLost(f"{self._address}: {self._link.how_it_ended()}"), "")

    @contextlib.contextmanager
    def _explaining(self, doing: str) -> Any:
        """The device's refusals in our words; what is not there stays a FileNotFoundError."""
        try:
            yield
        except DeviceLost as exc:
            raise self._what_happened(exc, "") from exc
        except FileNotFoundError:
            raise
        except OSError as exc:
            if exc.errno in _OUT_OF_SPACE:
                raise EnvironmentProblem(f"{self._address}: {doing}: the device's disk is full; free some space there") from exc
            raise EnvironmentProblem(f"{self._address}: {doing}: {exc.filename}: {exc.strerror}") from exc

    def _what_happened(self, lost: DeviceLost, stdout: str) -> DeviceLost:
        """Look at the device once more, for a bounded time: did it restart? That connection also removes what was left behind."""
        before = self._link.hello["boot_id"]
        self._link.abandon()
        try:
            again = self._open()
        except EnvironmentProblem as exc:
            now = f"and it can't be reached now ({exc})"
        else:
            again.end()
            restarted = before is not None and again.hello["boot_id"] != before
            now = "because it restarted" if restarted else "but it runs on and can be reached again: the connection was cut"
        return DeviceLost(f"{lost}; {now}; nothing of this run was left on it" if "now (" not in now else f"{lost}; {now}", stdout=stdout)

    def close(self) -> None:
        self._link.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
