"""The SSH transport against a real sshd on this machine: every way that a connection can fail, and what is left when it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from arm_device.machine import free_port
from ssh_server import SshServer, running_sshd

from edgepack.core.errors import EnvironmentProblem
from edgepack.devices.inventory import Device
from edgepack.devices.protocol import DeviceLost
from edgepack.devices.ssh.transport import SshTransport

BUSY = "import time\nfor n in range(600): print(n, flush=True); time.sleep(0.1)"


@pytest.fixture(autouse=True)
def config(sshd: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_SSH_CONFIG", str(sshd.config))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, sshd: SshServer) -> Callable[..., None]:
    """Another ssh config: use(Port="22")."""
    return lambda **settings: monkeypatch.setenv("EDGEPACK_SSH_CONFIG", str(sshd.variant("variant", **settings)))


@pytest.fixture
def device() -> Iterator[SshTransport]:
    with SshTransport("board", lost_after_s=6) as transport:
        yield transport


def no_connection(python: str | None = None) -> str:
    """The error of a connection that must fail."""
    device = Device(name="b", address="ssh://board", python=python) if python else None
    with pytest.raises(EnvironmentProblem) as caught:
        SshTransport("board", device=device, connect_s=3, lost_after_s=3)
    return str(caught.value)


def processes_with(text: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found += [int(folder.name)] if text.encode() in (folder / "environ").read_bytes() else []
            except OSError:
                continue
    return found


def wait_until(condition: Callable[[], object], *, limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def folder_of(device: SshTransport) -> Path:
    return Path(str(device.facts["folder"]))


def keeper_of(device: SshTransport) -> int:
    return int(folder_of(device).name.split("-")[1])


def test_a_refused_key_is_told(use: Callable[..., None], tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    use(IdentityFile=str(tmp_path / "other"))

    assert "ssh://board: it refused the login: none of your keys is accepted" in no_connection()


def test_an_unknown_host_key_is_told(use: Callable[..., None], tmp_path: Path) -> None:
    use(UserKnownHostsFile=str(tmp_path / "none"))

    message = no_connection()

    assert "its host key is not known here; connect once with 'ssh -F " in message
    assert not (tmp_path / "none").exists()


def test_a_changed_host_key_is_told(use: Callable[..., None], tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    public = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    (tmp_path / "known").write_text(f"board {public}\n")
    use(UserKnownHostsFile=str(tmp_path / "known"))

    assert "its host key is another than the known one" in no_connection()


def test_a_name_that_leads_nowhere_is_told(use: Callable[..., None]) -> None:
    use(HostName="no-such-host.invalid")

    assert "its name leads to no address" in no_connection()


def test_a_closed_port_is_told(use: Callable[..., None]) -> None:
    use(Port=str(free_port()))

    assert "nothing listens on its SSH port" in no_connection()


def test_a_host_that_says_nothing_is_told_in_bounded_time(use: Callable[..., None]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        use(Port=str(silent.getsockname()[1]))
        began = time.monotonic()

        message = no_connection()

    assert "doesn't answer" in message or "no SSH server" in message
    assert time.monotonic() - began < 20


def test_no_python_on_the_device_is_told() -> None:
    assert "no Python on the device: '/no/python3' is not there; install Python" in no_connection("/no/python3")


def test_a_python_that_does_not_work_is_told() -> None:
    assert "'/bin/false' on the device does not work (exit code 1)" in no_connection("/bin/false")


def test_a_python_that_is_too_old_is_told(tmp_path: Path) -> None:
    code = "import sys,json; sys.version_info=(3,7,3); exec(json.loads(sys.stdin.readline()))"
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}"\n')
    (tmp_path / "python").chmod(0o755)

    assert "is Python 3.7.3; 3.9 or newer is needed" in no_connection(str(tmp_path / "python"))


def test_a_login_script_that_talks_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "python").write_text(f'#!/bin/sh\nprintf "Welcome {{ to the board"\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    entry = Device(name="b", address="ssh://board", python=str(tmp_path / "python"))

    with SshTransport("board", device=entry) as device:
        assert device.run(["echo", "hello"], timeout_s=60).stdout == "hello\n"


def test_a_server_without_sftp_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("one")
    with running_sshd(tmp_path, with_sftp=False) as server:
        monkeypatch.setenv("EDGEPACK_SSH_CONFIG", str(server.config))
        with (
            SshTransport("board") as device,
            pytest.raises(EnvironmentProblem, match="has no SFTP; install openssh-sftp"),
        ):
            device.put(tmp_path / "a.txt")


def test_a_program_for_another_processor_is_told(device: SshTransport, tmp_path: Path) -> None:
    other = 0xB7 if os.uname().machine != "aarch64" else 0x3E  # ELF's e_machine: AArch64, x86-64
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + other.to_bytes(2, "little") + bytes(100)
    (tmp_path / "tool").write_bytes(header)
    (tmp_path / "tool").chmod(0o755)
    remote = device.put(tmp_path / "tool")

    with pytest.raises(EnvironmentProblem, match=rf"wrong architecture: .*\({os.uname().machine}\)"):
        device.run([remote], timeout_s=60)


def test_no_ssh_client_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "'ssh' can't be started on this machine" in no_connection()


def test_a_cut_connection_is_told_and_what_came_home_is_kept(device: SshTransport) -> None:
    folder = folder_of(device)
    session = int((Path("/proc") / str(keeper_of(device)) / "stat").read_text().rpartition(")")[2].split()[1])
    code = f"import os, signal, time\nprint('first', flush=True)\ntime.sleep(1)\nos.kill({session}, signal.SIGKILL)\n{BUSY}"

    with pytest.raises(DeviceLost, match="the device itself ran on, and answers again") as caught:
        device.run(["python", "-c", code], timeout_s=60)

    assert caught.value.stdout.startswith("first\n")
    assert not folder.exists()
    assert processes_with(str(folder)) == []


def test_a_lost_device_stays_lost(device: SshTransport, tmp_path: Path) -> None:
    os.kill(keeper_of(device), signal.SIGKILL)
    with pytest.raises(DeviceLost):
        device.run(["sleep", "60"], timeout_s=60)

    with pytest.raises(DeviceLost):
        device.run(["true"], timeout_s=60)
    with pytest.raises(DeviceLost):
        device.get("x", tmp_path / "x")


def test_what_a_killed_keeper_left_is_removed_by_the_next_connection(device: SshTransport) -> None:
    folder = folder_of(device)
    started = subprocess.Popen(["sleep", "600"], env=os.environ | {"EDGEPACK_DEVICE_FOLDER": str(folder)})
    os.kill(keeper_of(device), signal.SIGKILL)
    wait_until(lambda: not (Path("/proc") / str(keeper_of(device)) / "exe").exists())
    assert folder.exists()

    with SshTransport("board") as following:
        assert folder.name in following.facts["left_behind"]

    assert not folder.exists()
    assert started.wait(timeout=10) == -signal.SIGKILL


def test_a_living_connection_is_left_alone(device: SshTransport) -> None:
    with SshTransport("board") as other:
        assert folder_of(device).name not in other.facts["left_behind"]
        assert folder_of(other) != folder_of(device)

    assert device.run(["echo", "hello"], timeout_s=60).stdout == "hello\n"


def test_a_process_that_leaves_its_group_is_ended_too(device: SshTransport) -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen(['sleep', '600'], start_new_session=True)\nprint(p.pid, flush=True)\n"
    )

    done = device.run([sys.executable, "-c", code], timeout_s=60)

    assert (done.returncode, done.stdout.strip().isdecimal()) == (0, True)
    wait_until(lambda: not (Path("/proc") / done.stdout.strip() / "exe").exists())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_an_edgepack_that_ends_leaves_nothing_on_the_device(number: signal.Signals, sshd: SshServer) -> None:
    code = (
        "import signal, json; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from edgepack.devices.ssh.transport import SshTransport\n"
        "with SshTransport('board') as d:\n"
        "    print(d.facts['folder'], flush=True)\n"
        "    d.run(['sh', '-c', 'sleep 600 & sleep 600'], timeout_s=600)"
    )
    user = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with user:
        assert user.stdout is not None
        folder = Path(user.stdout.readline().strip())
        wait_until(lambda: len(processes_with(str(folder))) >= 2)

        user.send_signal(number)
        user.wait(timeout=60)

    wait_until(lambda: not folder.exists())
    assert processes_with(str(folder)) == []


def test_the_last_connection_removes_the_folder_of_all(device: SshTransport) -> None:
    base = folder_of(device).parent
    with SshTransport("board"):
        pass
    assert base.exists()

    device.close()

    # Another test process may have a connection of its own.
    wait_until(lambda: not base.exists() or any(path.name.startswith("at-") for path in base.iterdir()))
    assert not folder_of(device).exists()


def test_connections_that_come_and_go_at_once_do_not_disturb_each_other() -> None:
    def use() -> str:
        with SshTransport("board") as device:
            return device.run(["echo", "hello"], timeout_s=60).stdout

    with ThreadPoolExecutor(4) as pool:
        assert [done.result() for done in [pool.submit(use) for _ in range(8)]] == ["hello\n"] * 8


def test_nothing_of_ours_stays_on_this_machine_either(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr("tempfile.tempdir", short)

        with SshTransport("board") as device:
            assert list(Path(short).iterdir())
            device.run(["true"], timeout_s=60)

        assert list(Path(short).iterdir()) == []


def test_a_long_temporary_folder_does_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ("long" * 30)).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 30)))

    with SshTransport("board") as device:
        assert device.run(["echo", "hello"], timeout_s=60).stdout == "hello\n"


def test_the_keeper_says_what_the_device_is(device: SshTransport) -> None:
    facts = json.loads(json.dumps(dict(device.facts)))

    assert facts["machine"] == os.uname().machine
    assert facts["disk_free_bytes"] > 0
    assert shutil.which("python3") is not None and facts["python"][0] == 3
