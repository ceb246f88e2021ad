"""A real registry process for tests (Debian: docker-registry; elsewhere: registry), on a port of the loopback interface."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

PROGRAM = shutil.which("docker-registry") or shutil.which("registry")
_TIMEOUT_S = 30.0


def why_not() -> str | None:
    """Why no registry can be used here; None where one can."""
    if PROGRAM is None:
        return "no registry is installed (apt install docker-registry)"
    if find_spec("oras") is None:
        return "the extra 'oci' is not installed"
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Its host and port, while it runs; what was pushed lies below `folder`."""
    assert PROGRAM is not None
    host = f"127.0.0.1:{free_port()}"
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'store'}}}}}\n"
        f"http: {{addr: '{host}'}}\n",
        encoding="utf-8",
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", str(config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            _wait(process, host, folder / "log")
            yield host
        finally:
            process.terminate()
            process.wait(timeout=_TIMEOUT_S)


def _wait(process: subprocess.Popen[bytes], host: str, log: Path) -> None:
    until = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{host}/v2/", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the registry did not start: {log.read_text(errors='replace')}")
