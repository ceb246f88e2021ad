"""A device of a labgrid lab: `labgrid://PLACE`. labgrid lends the place and says where its device is; from there it is a device over SSH.

docs/decisions/0008-labgrid-lends.md says why labgrid's own SSH driver runs nothing here.
"""

from __future__ import annotations

import getpass
import importlib.util
import json
import os
import secrets
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgepack.core.errors import EnvironmentProblem, UsageError
from edgepack.devices import TRANSPORTS
from edgepack.devices.inventory import Device
from edgepack.devices.protocol import CompletedRun, Transport
from edgepack.records import DeviceName

_HOLDER = Path(__file__).with_name("labgrid_place.py")
_ACQUIRED_WITHIN_S, _RELEASED_WITHIN_S = 90.0, 45.0  # above the holder's own limits
_REMEDIES = {
    "coordinator": "start it, or name it in the variable LG_COORDINATOR (host:port)",
    "place": "'labgrid-client places' lists the places, 'labgrid-client who' who has them",
}


class LabgridTransport:
    """A Transport to the device of a labgrid place, which is ours from the opening to the closing."""

    def __init__(self, place: str, *, device: Device | None = None) -> None:
        if not place or "/" in place:
            raise UsageError(f"labgrid://{place}: not a place; 'labgrid-client places' lists them")
        self._name = place if device is None else device.name
        self._loan = _Loan(place)
        try:
            self._over_ssh = _open_ssh(f"labgrid://{place}", self._loan.services, device)
        except BaseException:
            self._loan.give_back()
            raise

    def describe(self) -> DeviceName:
        return DeviceName(transport="labgrid", name=self._name)

    def put(self, local: Path, *, companions: Sequence[Path] = ()) -> str:
        return self._over_ssh.put(local, companions=companions)

    def run(
        self, argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CompletedRun:
        return self._over_ssh.run(argv, timeout_s=timeout_s, environment=environment)

    def get(self, remote: str, local: Path) -> None:
        self._over_ssh.get(remote, local)

    def close(self) -> None:
        try:
            self._over_ssh.close()
        finally:
            self._loan.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Loan:
    """A place that a process of its own holds until its standard input ends, so also when this process is killed."""

    def __init__(self, place: str) -> None:
        if importlib.util.find_spec("labgrid") is None:
            raise EnvironmentProblem(f"labgrid://{place}: needs labgrid: pip install 'edgepack[labgrid]'")
        # A name of this attempt's own: labgrid takes one user for one session, and would let two of them share a place.
        user = f"{getpass.getuser()}-edgepack-{secrets.token_hex(4)}"
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_HOLDER), place],  # -P: not our files first, one of them is named labgrid
            env=os.environ | {"LG_USERNAME": user},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for edgepack, which gives the place back in order
        )
        try:
            answer = self._answer(place)
            if "error" in answer:
                raise EnvironmentProblem(f"labgrid://{place}: {answer['message']}; {_REMEDIES[answer['error']]}")
        except BaseException:
            self.give_back()
            raise
        self.services: list[dict[str, Any]] = answer["services"]

    def give_back(self) -> None:
        """Release the place; the holder itself says so where that fails. Twice is fine."""
        process = self._process
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
        try:
            process.wait(timeout=_RELEASED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _answer(self, place: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _ACQUIRED_WITHIN_S)
        line = self._process.stdout.readline() if ready else b""
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            how = "did not answer in time" if not ready else "ended without an answer"
            raise EnvironmentProblem(
                f"labgrid://{place}: labgrid's client {how}; does 'labgrid-client -p {place} show' work?"
            ) from None
        return answer


def _open_ssh(address: str, services: Sequence[Mapping[str, Any]], device: Device | None) -> Transport:
    """The place's device by the one NetworkService that it has."""
    if len(services) != 1:
        found = ", ".join(str(service["name"]) for service in services) or "none"
        raise EnvironmentProblem(
            f"{address}: the place must have one resource NetworkService, and has {found}; add it with "
            "'labgrid-client -p PLACE add-match', or name the device by ssh:// or adb://"
        )
    service = services[0]
    host = f"[{service['address']}]" if ":" in service["address"] else service["address"]
    try:
        return TRANSPORTS.load("ssh")(f"{service['username']}@{host}:{service['port'] or 22}", device=device)
    except EnvironmentProblem as exc:
        hints = []
        if service["proxy"]:
            jump = f"its exporter says that it is reached through {service['proxy']}"
            hints.append(
                f"{jump}: write 'ProxyJump {service['proxy']}' for the host {service['address']} into your ~/.ssh/config"
            )
        if service["has_password"]:
            hints.append(
                "labgrid knows a password for it; edgepack uses keys only: put yours on the device (ssh-copy-id)"
            )
        raise EnvironmentProblem("; ".join([f"{address}: {exc}", *hints])) from exc
