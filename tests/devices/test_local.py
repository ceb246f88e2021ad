from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgepack.core.errors import EnvironmentProblem
from edgepack.devices import TRANSPORTS
from edgepack.devices.local import LocalTransport

_START_A_CHILD = "sleep 600 & echo $! > {file}.part && mv {file}.part {file}; wait"


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: object, *, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_table_names_it() -> None:
    with TRANSPORTS.load("local")() as device:
        assert device.describe().transport == "local"


def test_companions_lie_beside_their_file_under_their_own_names(tmp_path: Path) -> None:
    """OpenVINO looks for model.bin beside model.xml."""
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_text(name)

    with LocalTransport() as device:
        remote = Path(device.put(tmp_path / "model.xml", companions=[tmp_path / "model.bin"]))

        assert remote.name == "model.xml"
        assert remote.with_name("model.bin").read_text() == "model.bin"


def test_files_travel_to_the_private_folder_and_back(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")

    with LocalTransport() as device:
        first, second = device.put(tmp_path / "a.txt"), device.put(tmp_path / "a.txt")
        device.run(["sh", "-c", f"cat {first} {second} > both.txt"], timeout_s=60)
        device.get("both.txt", tmp_path / "both.txt")

    assert first != second
    assert (tmp_path / "both.txt").read_text() == "oneone"


def test_the_private_folder_is_gone_after_closing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")

    with LocalTransport() as device:
        remote = Path(device.put(tmp_path / "a.txt"))
        assert remote.exists()
    device.close()

    assert not remote.parent.exists()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with LocalTransport() as device, pytest.raises(FileNotFoundError):
        device.get("nothing.json", tmp_path / "x")


def test_a_failing_command_is_a_return_code() -> None:
    with LocalTransport() as device:
        done = device.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=60)

    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_command_that_does_not_exist_is_told() -> None:
    with LocalTransport() as device, pytest.raises(EnvironmentProblem, match="no-such-command"):
        device.run(["no-such-command"], timeout_s=60)


def test_python_is_this_python_with_one_thread_and_no_foreign_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    code = "import os, sys; print(sys.executable, os.environ['OMP_NUM_THREADS'], os.environ.get('PYTHONPATH'))"

    with LocalTransport() as device:
        done = device.run(["python", "-c", code], timeout_s=60)

    assert done.stdout.split() == [sys.executable, "1", "None"]


def test_a_timeout_kills_the_command_and_what_it_started(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    with LocalTransport() as device, pytest.raises(TimeoutError, match="within 3 s"):
        device.run(["sh", "-c", _START_A_CHILD.format(file=file)], timeout_s=3)

    wait_until(lambda: not is_alive(int(file.read_text())))


def test_ctrl_c_kills_the_command_and_what_it_started(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    argv = ["sh", "-c", _START_A_CHILD.format(file=file)]
    code = f"from edgepack.devices.local import LocalTransport as L\nwith L() as d: d.run({argv!r}, timeout_s=600)"
    # A shell may start background work with Ctrl-C ignored; Python then ignores it, too.
    user = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + code],
        stderr=subprocess.PIPE,
        text=True,
    )
    with user:
        wait_until(file.exists)
        child = int(file.read_text())
        assert is_alive(child)

        os.kill(user.pid, signal.SIGINT)
        _, log = user.communicate(timeout=60)

    assert "KeyboardInterrupt" in log
    wait_until(lambda: not is_alive(child))
