"""A real labgrid lab: coordinator, exporter and client from the package, and the device is a real sshd here."""

from __future__ import annotations

import getpass
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from arm_device.machine import free_port
from ssh_server import SshServer, running_sshd, why_no_sshd

from edgepack.core.errors import EnvironmentProblem, UsageError
from edgepack.devices.inventory import Device
from edgepack.devices.labgrid import LabgridTransport

BIN = Path(sys.executable).parent


def client(*words: str) -> str:
    done = subprocess.run(
        [str(BIN / "labgrid-client"), *words], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def holders() -> str:
    """Who has the place 'board', '' for nobody."""
    return "\n".join(line for line in client("who").splitlines() if " board " in line)


def until(condition: object, limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A coordinator with a place 'board' (the sshd), and 'empty', which has no device."""
    if importlib.util.find_spec("labgrid") is None:
        pytest.skip("labgrid isn't installed: pip install 'edgepack[labgrid]'")
    if reason := why_no_sshd():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("lab")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        sshd = stack.enter_context(running_sshd(folder))
        coordinator = f"127.0.0.1:{free_port()}"
        patch.setenv("LG_COORDINATOR", coordinator)
        patch.setenv("EDGEPACK_SSH_CONFIG", str(sshd.config))
        resource = f"NetworkService:\n    address: board\n    port: {sshd.port}\n    username: {getpass.getuser()}\n"
        (folder / "exported.yaml").write_text(f"desk:\n  {resource}")
        stack.enter_context(serving(folder, "labgrid-coordinator", "-l", coordinator))
        until(lambda: "unavailable" not in client("places"))
        stack.enter_context(
            serving(
                folder, "labgrid-exporter", "-c", coordinator, "-n", "rack", "--hostname", "localhost", "exported.yaml"
            )
        )
        until(lambda: "rack" in client("resources"))
        for words in (("create",), ("add-match", "rack/desk/NetworkService")):
            client("-p", "board", *words)
        client("-p", "empty", "create")
        yield sshd


def serving(folder: Path, program: str, *words: str) -> ExitStack:
    log = (folder / f"{program}.log").open("w")
    process = subprocess.Popen(
        [str(BIN / program), *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    stack = ExitStack()
    stack.callback(log.close)
    stack.callback(process.wait, timeout=20)
    stack.callback(process.terminate)
    return stack


def test_a_place_is_ours_while_it_is_open_and_its_device_works(lab: SshServer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")

    with LabgridTransport("board") as device:
        during = holders()
        there = device.put(tmp_path / "a.txt")
        ran = device.run(["cat", there], timeout_s=30)
        device.get(there, tmp_path / "b.txt")
        named = device.describe()

    assert f"{getpass.getuser()}-edgepack-" in during
    assert holders() == ""
    assert (ran.returncode, ran.stdout, (tmp_path / "b.txt").read_text()) == (0, "one", "one")
    assert (named.transport, named.name) == ("labgrid", "board")


def test_a_place_that_somebody_has_is_refused_and_stays_theirs(lab: SshServer) -> None:
    with LabgridTransport("board"):
        before = holders()
        with pytest.raises(
            EnvironmentProblem, match=r"labgrid://board: .*already acquired by .*-edgepack-.*labgrid-client who"
        ):
            LabgridTransport("board")
        assert holders() == before != ""


def test_a_place_is_given_back_when_its_device_cant_be_reached(lab: SshServer) -> None:
    known = Device(name="x", address="labgrid://board", python="/no/python3")

    with pytest.raises(EnvironmentProblem, match=r"labgrid://board: .*no Python on the device"):
        LabgridTransport("board", device=known)

    assert holders() == ""


def test_a_place_is_given_back_after_an_error(lab: SshServer) -> None:
    with pytest.raises(ZeroDivisionError), LabgridTransport("board"):
        raise ZeroDivisionError

    assert holders() == ""


def test_a_place_is_given_back_when_edgepack_is_killed(lab: SshServer) -> None:
    code = (
        "from edgepack.devices.labgrid import LabgridTransport as T; t = T('board'); print('open', flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    assert holders() != ""

    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    until(lambda: holders() == "")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("bord", r"labgrid://bord: .*'labgrid-client places' lists"),
        ("empty", r"one resource NetworkService, and has none"),
    ],
)
def test_a_place_without_a_device_is_told(lab: SshServer, place: str, said: str) -> None:
    with pytest.raises(EnvironmentProblem, match=said):
        LabgridTransport(place)

    assert "edgepack" not in client("who")


def test_without_a_coordinator_it_is_said_where_one_was_looked_for(
    lab: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("LG_COORDINATOR", nowhere)

    with pytest.raises(EnvironmentProblem, match=f"no labgrid coordinator answers at {nowhere}; start it, or name it"):
        LabgridTransport("board")


def test_what_is_no_place_is_refused() -> None:
    with pytest.raises(UsageError, match="not a place"):
        LabgridTransport("a/b")
