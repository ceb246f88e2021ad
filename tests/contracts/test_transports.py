"""What holds for every transport: over this machine, over a real sshd on it, and over the arm64 machine's."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from arm_device.machine import ArmDevice
from ssh_server import SshServer

from edgepack.core.errors import EnvironmentProblem, RecipeError
from edgepack.devices import TRANSPORTS
from edgepack.devices.inventory import Device
from edgepack.devices.protocol import Transport

Open = Callable[..., Transport]
# How each transport is reached in a test; one that isn't listed here has contract tests of its own.
WAYS = (
    "local",
    "ssh",
    pytest.param("ssh-arm64", marks=pytest.mark.device),
    pytest.param("adb-arm64", marks=pytest.mark.device),
)
_ALIVE = "import sys; from pathlib import Path; p = Path(f'/proc/{sys.argv[1]}/stat'); print(p.exists() and p.read_text().rpartition(')')[2].split()[0] != 'Z')"
_START_A_CHILD = "sleep 600 & echo $! > pid.part && mv pid.part pid; echo started; wait"


@pytest.fixture(params=WAYS, scope="module")
def opened(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a device of each kind, as a user's address or inventory entry does."""
    address, patch = "local", pytest.MonkeyPatch()
    if request.param == "ssh":
        server: SshServer = request.getfixturevalue("sshd")
        patch.setenv("EDGEPACK_SSH_CONFIG", str(server.config))
        address = "ssh://board"
    elif request.param == "ssh-arm64":
        arm: ArmDevice = request.getfixturevalue("arm_device")
        patch.setenv("EDGEPACK_SSH_CONFIG", str(arm.ssh_config))
        address = "ssh://arm-device"
    elif request.param == "adb-arm64":
        if shutil.which("adb") is None:
            pytest.skip("adb isn't installed (Debian: apt install adb)")
        address = f"adb://{request.getfixturevalue('arm_device').adb_address}"
    with ExitStack() as stack, patch.context():

        def open_it(**entry: Any) -> Transport:
            scheme, _, place = address.partition("://")
            device = Device(name="bench-7", address=address, **entry) if entry else None
            return stack.enter_context(TRANSPORTS.load(scheme)(place, device=device))

        yield open_it
    patch.undo()


@pytest.fixture(scope="module")
def device(opened: Open) -> Transport:
    """One that several tests use in turn."""
    return opened()


def exists_on(device: Transport, path: str) -> bool:
    return device.run(["ls", path], timeout_s=60).returncode == 0


def text(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content)
    return folder / name


def test_a_file_goes_there_is_read_and_comes_back(device: Transport, tmp_path: Path) -> None:
    remote = device.put(text(tmp_path, "a.txt", "one\n"))
    done = device.run(["sh", "-c", 'cat "$1" > copy.txt; cat copy.txt', "sh", remote], timeout_s=60)
    device.get("copy.txt", tmp_path / "back.txt")

    assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")
    assert (tmp_path / "back.txt").read_text() == "one\n"


def test_bytes_survive_both_ways(device: Transport, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a.bin").write_bytes(data)
    device.get(device.put(tmp_path / "a.bin"), tmp_path / "b.bin")

    assert (tmp_path / "b.bin").read_bytes() == data


def test_names_with_spaces_quotes_and_wildcards_are_names(device: Transport, tmp_path: Path) -> None:
    name = "a 'b\" $HOME *[x] ä;.txt"
    remote = device.put(text(tmp_path, name, "odd"))

    assert remote.endswith(name)
    assert device.run(["cat", remote], timeout_s=60).stdout == "odd"


def test_companions_lie_beside_their_file_and_later_files_replace_nothing(device: Transport, tmp_path: Path) -> None:
    first = device.put(text(tmp_path, "m.xml", "1"), companions=[text(tmp_path, "m.bin", "2")])
    second = device.put(text(tmp_path, "m.xml", "3"))

    done = device.run(["cat", first, first.replace(".xml", ".bin"), second], timeout_s=60)

    assert (first != second, done.stdout) == (True, "123")


def test_a_failing_command_is_a_return_code(device: Transport) -> None:
    done = device.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=60)

    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_command_killed_by_a_signal_has_its_negative_number(device: Transport) -> None:
    assert device.run(["sh", "-c", "kill -SEGV $$"], timeout_s=60).returncode == -11


def test_a_command_that_does_not_exist_is_told(device: Transport) -> None:
    with pytest.raises(EnvironmentProblem, match="no-such-command: can't be started"):
        device.run(["no-such-command"], timeout_s=60)


def test_a_file_that_is_not_there_is_told(device: Transport, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        device.get("nothing.json", tmp_path / "x")


def test_the_threads_are_one_and_no_foreign_paths_get_in(device: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ.get('PYTHONPATH'))"

    assert device.run(["python", "-c", code], timeout_s=60).stdout == "1 None\n"


def test_the_caller_may_add_to_the_environment(device: Transport) -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['ODD'])"

    done = device.run(["python", "-c", code], timeout_s=60, environment={"OMP_NUM_THREADS": "2", "ODD": "a 'b\" $HOME"})

    assert done.stdout == "2 a 'b\" $HOME\n"


def test_an_inventory_entry_names_the_device_its_python_and_its_packages(opened: Open) -> None:
    device = opened(python="python3", python_path=["/opt/a", "/opt/b"])

    done = device.run(["python", "-c", "import os; print(os.environ['PYTHONPATH'])"], timeout_s=60)

    assert done.stdout == "/opt/a:/opt/b\n"
    assert device.describe().name == "bench-7"


def test_a_command_that_is_too_slow_is_ended_with_all_it_started_and_its_words_are_kept(
    device: Transport, request: pytest.FixtureRequest
) -> None:
    limit_s = 15 if "arm64" in request.node.name else 3  # an emulated device on a busy machine takes its time to start
    with pytest.raises(TimeoutError, match=f"within {limit_s} s") as caught:
        device.run(["sh", "-c", _START_A_CHILD], timeout_s=limit_s)

    assert caught.value.stdout == "started\n"  # type: ignore[attr-defined]
    child = device.run(["cat", "pid"], timeout_s=60).stdout.strip()
    assert device.run(["python", "-c", _ALIVE, child], timeout_s=60).stdout == "False\n"


def test_after_a_timeout_the_next_command_runs(device: Transport) -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            device.run(["sleep", "60"], timeout_s=0.3)

        assert device.run(["echo", "hello"], timeout_s=60).stdout == "hello\n"


def test_much_output_comes_home_whole(device: Transport) -> None:
    done = device.run(["python", "-c", "print('x' * 3_000_000)"], timeout_s=120)

    assert len(done.stdout) == 3_000_001


def test_the_private_folder_is_private_and_gone_after_closing(opened: Open, tmp_path: Path) -> None:
    device, other = opened(), opened()
    remote = device.put(text(tmp_path, "a.txt", "one"))
    assert exists_on(other, remote)
    mode = device.run(["python", "-c", "import os; print(os.stat('.').st_mode)"], timeout_s=60).stdout

    device.close()
    device.close()

    assert stat.S_IMODE(int(mode)) == 0o700
    assert not exists_on(other, str(Path(remote).parent.parent))


def test_the_private_folder_is_gone_after_an_error(opened: Open, tmp_path: Path) -> None:
    other = opened()
    with pytest.raises(ZeroDivisionError), opened() as device:
        remote = device.put(text(tmp_path, "a.txt", "one"))
        raise ZeroDivisionError

    assert not exists_on(other, remote)


@pytest.mark.parametrize("name", TRANSPORTS.names())
def test_every_transport_has_every_method_of_the_protocol(name: str) -> None:
    transport = TRANSPORTS.load(name)
    methods = [key for key, value in vars(Transport).items() if callable(value) and not key.startswith("__")]

    assert [method for method in methods if not callable(getattr(transport, method, None))] == []


def test_an_unknown_transport_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"unknown transport 'zzz' \(known: "):
        TRANSPORTS.load("zzz")
