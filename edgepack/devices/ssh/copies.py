"""Files over the open connection, by sftp: every copy is bounded, and ends when the device is lost."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path, PurePosixPath

from edgepack.core.errors import EnvironmentProblem
from edgepack.core.files import out_of_space_is_clear
from edgepack.devices.ssh.failures import sftp_failure
from edgepack.devices.ssh.link import Link

_SLOWEST_LINK_BYTES_PER_S = 20_000
_GET_LIMIT_S = 3600.0
_LOOK_S = 0.5
_REQUESTS = "16"  # of 32 KiB under way: with more, signs of life would queue behind them on a slow link


def put_file(link: Link, file: Path, folder: PurePosixPath, *, name: str | None = None) -> None:
    """Copy a file into a folder of the device, whole or not at all."""
    shown = link.scratch / "put"  # sftp gets only names of ours, which need no quoting
    shown.unlink(missing_ok=True)
    shown.symlink_to(file.absolute())
    limit_s = 60 + file.stat().st_size / _SLOWEST_LINK_BYTES_PER_S
    _sftp(link, f"put {shown} {folder}/.part", limit_s=limit_s, doing=f"copying {file.name} to it")
    link.ask("move", source=f"{folder}/.part", target=str(folder / (name or file.name)))


def get_file(link: Link, remote: PurePosixPath, local: Path, *, at: PurePosixPath) -> None:
    """Copy a file from the device; `at` is a free name there that needs no quoting. Raises FileNotFoundError."""
    here = link.scratch / "get"
    link.ask("show", path=str(remote), at=str(at))
    try:
        _sftp(link, f"get {at} {here}", limit_s=_GET_LIMIT_S, doing=f"copying {remote.name} from it")
    finally:
        link.ask("remove", path=str(at))
    with out_of_space_is_clear(local):
        local.write_bytes(here.read_bytes())
    here.unlink()


def _sftp(link: Link, batch: str, *, limit_s: float, doing: str) -> None:
    socket = ["-o", "ControlMaster=no", "-o", f"ControlPath={link.socket}"]
    process = subprocess.Popen(
        ["sftp", "-q", "-b", "-", "-R", _REQUESTS, *link.options, *socket, *link.sftp_target],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with process:
        try:
            said = _wait(link, process, batch + "\n", deadline=time.monotonic() + limit_s)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        link.check()
        raise sftp_failure(link.address, doing=doing, said=said)


def _wait(link: Link, process: subprocess.Popen[str], batch: str, *, deadline: float) -> str:
    text: str | None = batch
    while True:
        try:
            return process.communicate(text, timeout=_LOOK_S)[1]
        except subprocess.TimeoutExpired:
            text = None
            link.check()
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"{link.address}: a copy takes too long; check the network and the device's disk"
                ) from None
