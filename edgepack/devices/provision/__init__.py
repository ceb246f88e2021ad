"""Brings a runtime to a device that lacks it: wheels downloaded here, unpacked there into a folder of edgepack's; nothing is installed.

The folder is kept on the device (~/.cache/edgepack/packages/DIGEST), so that the next time nothing is copied; removing it undoes everything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgepack.core.digest import sha256_file
from edgepack.core.errors import EnvironmentProblem
from edgepack.devices.protocol import CompletedRun, Transport
from edgepack.devices.provision.wheels import DevicePython, name_of, requirements_of, wheels_for
from edgepack.records import DeviceName

ON_DEVICE = Path(__file__).with_name("on_device.py")
_ASK_LIMIT_S = 120.0
_UNPACK_LIMIT_S = 900.0
_ROOM = 4.0  # a wheel of shared libraries is a third of what it holds


class WithPackages:
    """A device whose Python finds a folder of packages first; everything else is the device's own."""

    def __init__(self, device: Transport, packages: str) -> None:
        self._device = device
        self.packages = packages

    def describe(self) -> DeviceName:
        return self._device.describe()

    def put(self, local: Path, *, companions: Sequence[Path] = ()) -> str:
        return self._device.put(local, companions=companions)

    def run(
        self, argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CompletedRun:
        added = dict(environment or {})
        added["PYTHONPATH"] = ":".join(filter(None, (added.get("PYTHONPATH"), self.packages)))
        return self._device.run(argv, timeout_s=timeout_s, environment=added)

    def get(self, remote: str, local: Path) -> None:
        self._device.get(remote, local)

    def close(self) -> None:
        self._device.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def provisioned(
    device: Transport,
    *runtimes: str,
    requirements: Sequence[str] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> WithPackages:
    """The same device with the packages of runtimes, brought there unless they are there already; they come before its own `python_path`.

    Several runtimes share one set, with one NumPy that suits all. `requirements` replaces what they need by default (their versions here). An interrupted transfer is taken up where it ended. Raises
    EnvironmentProblem: no wheel for this device, no room there, no index here.
    """
    script = device.put(ON_DEVICE)
    python = DevicePython.model_validate(_ask(device, script, "facts"))
    usual = (package for runtime in runtimes for package in requirements_of(runtime))
    wanted = tuple(dict.fromkeys(usual if requirements is None else requirements))
    wheels = wheels_for(python, wanted)
    folder = f"{python.packages}/{name_of(wheels)}"
    there = _ask(device, script, "have", folder)
    if not there["complete"]:
        missing = [wheel for wheel in wheels if sha256_file(wheel) not in there["wheels"]]
        _check_room(python, missing)
        for number, wheel in enumerate(missing, 1):
            note(f"bringing {wheel.name} to the device ({number} of {len(missing)})")
            _ask(device, script, "unpack", folder, device.put(wheel), sha256_file(wheel))
        _ask(device, script, "finish", folder)
    return WithPackages(device, folder)


def _check_room(python: DevicePython, wheels: Sequence[Path]) -> None:
    needed = _ROOM * sum(wheel.stat().st_size for wheel in wheels)
    if needed > python.free_bytes:
        raise EnvironmentProblem(
            f"--provision: not enough disk space on the device: the packages need about {needed / 1e6:.0f} MB, "
            f"{python.free_bytes / 1e6:.0f} MB are free for {python.packages}; free some there"
        )


def _ask(device: Transport, script: str, *words: str) -> dict[str, Any]:
    limit_s = _UNPACK_LIMIT_S if words[0] == "unpack" else _ASK_LIMIT_S
    done = device.run(["python", script, *words], timeout_s=limit_s)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        tail = " / ".join(done.stderr.strip().splitlines()[-2:])
        raise EnvironmentProblem(
            f"--provision: the device's Python can't do it (exit code {done.returncode}): {tail}"
        ) from None
    if "error" in answer:
        raise EnvironmentProblem(f"--provision: on the device: {answer['error']}")
    return answer
