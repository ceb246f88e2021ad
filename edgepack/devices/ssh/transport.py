"""A device that OpenSSH reaches: `ssh://[user@]host[:port]`, with the user's own config, keys and known hosts."""

from __future__ import annotations

import base64
import contextlib
import errno
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from edgepack.core.errors import EnvironmentProblem, UsageError
from edgepack.devices.inventory import Device
from edgepack.devices.protocol import DROPPED_VARIABLES, ONE_THREAD, CompletedRun, DeviceLost, RunTimeout
from edgepack.devices.ssh.copies import get_file, put_file
from edgepack.devices.ssh.failures import not_started, notes_of
from edgepack.devices.ssh.link import Link, Place
from edgepack.records import DeviceName

_PLACE = re.compile(
    r"(?:(?P<user>[^@]+)@)?(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^-@:/\s][^@:/\s]*))(?::(?P<port>\d{1,5}))?/?"
)
_KILL_LIMIT_S = 15.0
_LOOK_AGAIN_S = 1.0
_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)
_STOPPED = {"T", "t"}


class _Written:
    """What a command wrote, as it came home."""

    def __init__(self) -> None:
        self._parts = {"stdout": bytearray(), "stderr": bytearray()}

    def add(self, message: Mapping[str, Any]) -> None:
        self._parts[message["wrote"]].extend(base64.b64decode(message["data"]))

    def text(self, stream: str) -> str:
        return self._parts[stream].decode(errors="replace")


class SshTransport:
    """A Transport over one connection. A device that is silent for `lost_after_s` is lost; to say what happened, it is looked for again for `look_s`.

    After DeviceLost the transport stays lost: the device removes the private folder on its own; open another one to go on.
    """

    def __init__(
        self,
        place: str,
        *,
        device: Device | None = None,
        lost_after_s: float = 30.0,
        connect_s: float = 15.0,
        look_s: float = 60.0,
    ) -> None:
        found = _PLACE.fullmatch(place)
        if found is None:
            raise UsageError(f"ssh://{place}: not an address; write ssh://[user@]host[:port]")
        self._place = Place(
            address=f"ssh://{place}",
            host=found["v6"] or found["host"],
            user=found["user"],
            port=None if found["port"] is None else int(found["port"]),
            python=(device and device.python) or "python3",
            lost_after_s=lost_after_s,
            connect_s=connect_s,
        )
        path = device.python_path if device else ()
        self._added = ONE_THREAD | ({"PYTHONPATH": ":".join(path)} if path else {})
        self._look_s = look_s
        self._lost: DeviceLost | None = None
        self._copies = 0
        self._link = Link(self._place)
        self._name = device.name if device else str(self._link.hello["name"])
        self._folder = PurePosixPath(self._link.hello["folder"])

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the device said of itself: machine, python, libc, boot_id, home, what an earlier connection had left behind there."""
        return self._link.hello

    def describe(self) -> DeviceName:
        return DeviceName(transport="ssh", name=self._name)

    def put(self, local: Path, *, companions: Sequence[Path] = ()) -> str:
        files = (local, *companions)
        self._copies += 1
        folder = self._folder / f"{self._copies:03d}"
        with self._explaining(f"copying {local.name} to it"):
            self._check_space(files)
            self._link.ask("make", path=str(folder))
            for file in files:
                put_file(self._link, file, folder)
        return str(folder / local.name)

    def get(self, remote: str, local: Path) -> None:
        self._copies += 1
        with self._explaining(f"copying {remote} from it"):
            get_file(self._link, self._folder / remote, local, at=self._folder / f".get-{self._copies}")

    def run(
        self, argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CompletedRun:
        written = _Written()
        added = self._added | dict(environment or {})
        with self._explaining(f"running {argv[0]}", written):
            try:
                self._link.order("run", argv=list(argv), environment=added, dropped=DROPPED_VARIABLES)
                end = self._until_exit(written, deadline=time.monotonic() + timeout_s)
            except DeviceLost:
                raise
            except BaseException:  # Ctrl-C, too
                self._kill(written)
                raise
            if end is None:
                raise self._too_slow(argv, timeout_s, written)
        if "answer" in end:
            raise not_started(self._place.address, argv[0], end["answer"], machine=str(self.facts["machine"]))
        stderr = written.text("stderr") + "".join(f"[edgepack] {note}\n" for note in notes_of(end))
        return CompletedRun(returncode=end["exit"], stdout=written.text("stdout"), stderr=stderr)

    def _until_exit(self, written: _Written, *, deadline: float) -> Mapping[str, Any] | None:
        """The message of the command's end, or that it didn't start; None when the time is over."""
        while (message := self._link.next_message(deadline - time.monotonic())) is not None:
            if "wrote" not in message:
                return message
            written.add(message)
        return None

    def _too_slow(self, argv: Sequence[str], timeout_s: float, written: _Written) -> RunTimeout:
        states = set(self._kill(written))
        why = "; on the device it was stopped (SIGSTOP or a debugger)" if states & _STOPPED else ""
        return RunTimeout(f"'{' '.join(argv)}' did not end within {timeout_s:g} s{why}", stdout=written.text("stdout"))

    def _kill(self, written: _Written) -> Sequence[str]:
        """End the command and all that it started; the states that its processes were in."""
        with contextlib.suppress(DeviceLost):
            self._link.order("kill")
            deadline = time.monotonic() + _KILL_LIMIT_S
            states: Sequence[str] = ()
            while (message := self._until_exit(written, deadline=deadline)) is not None:
                if "answer" not in message:
                    return states  # its end
                states = message["answer"].get("states", ())
                if not message["answer"].get("running"):
                    return states
        return ()

    def _check_space(self, files: Sequence[Path]) -> None:
        needed, free = sum(file.stat().st_size for file in files), self._link.ask("facts")["disk_free_bytes"]
        if needed > free:
            raise EnvironmentProblem(
                f"{self._place.address}: not enough disk space on the device for {files[0].name}: {needed / 1e6:.1f} MB are "
                f"needed, {free / 1e6:.1f} MB are free in {self._folder.parent}; free some there"
            )

    @contextlib.contextmanager
    def _explaining(self, doing: str, written: _Written | None = None) -> Iterator[None]:
        """A lost device, once looked at, and its refusals in our words. A file that is not there stays a FileNotFoundError."""
        address = self._place.address
        if self._lost is not None:
            raise DeviceLost(str(self._lost))
        try:
            yield
        except DeviceLost as exc:
            self._lost = DeviceLost(self._what_happened(str(exc)), stdout=written.text("stdout") if written else "")
            raise self._lost from exc
        except (FileNotFoundError, TimeoutError):
            raise
        except OSError as exc:
            reason = "the device's disk is full; free some space there" if exc.errno in _OUT_OF_SPACE else exc.strerror
            raise EnvironmentProblem(f"{address}: {doing}: {reason}") from exc

    def _what_happened(self, lost: str) -> str:
        """Look at the device once more, for a bounded time: did it restart? That connection also removes what was left behind."""
        before = self._link.hello["boot_id"]
        self._link.abandon()
        deadline = time.monotonic() + self._look_s
        while True:
            try:
                again = Link(self._place)
                break
            except EnvironmentProblem as exc:
                if time.monotonic() > deadline:
                    reason = str(exc).removeprefix(f"{self._place.address}: ")
                    return f"{lost}; {self._look_s:g} s later it still can't be reached: {reason}"
            time.sleep(_LOOK_AGAIN_S)
        again.end()
        if before is not None and again.hello["boot_id"] != before:
            return f"{lost}: it restarted, and answers again"
        return f"{lost}; the device itself ran on, and answers again"

    def close(self) -> None:
        self._link.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
