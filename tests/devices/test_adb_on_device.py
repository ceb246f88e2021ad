"""A real device over adb: Google's adbd in the arm64 machine of tests/arm_device."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from arm_device.machine import ArmDevice

from edgepack.core.errors import EnvironmentProblem
from edgepack.devices import leftovers
from edgepack.devices.adb import AdbTransport
from edgepack.devices.agent import AgentSpec, LostInRun, agent_file, ask, put_spec
from edgepack.devices.inventory import Device
from edgepack.devices.protocol import DeviceLost

pytestmark = [pytest.mark.device, pytest.mark.slow]


@pytest.fixture
def serial(arm_device: ArmDevice) -> Iterator[str]:
    if shutil.which("adb") is None:
        pytest.skip("adb isn't installed")
    yield arm_device.adb_address
    adb("disconnect", arm_device.adb_address)


def adb(*words: str) -> None:
    subprocess.run(["adb", *words], capture_output=True, timeout=30, check=False)


def left_on(device: ArmDevice) -> str:
    """Our folders, and processes that tests start, on the device."""
    return device.ssh(
        "sh", "-c", "ls -d /data/local/tmp/edgepack-* 2>/dev/null; ps -eo pid,args | grep '[s]leep'"
    ).stdout


def test_files_go_there_and_come_back(serial: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(range(256)) * 5000)
    (tmp_path / "über uns.txt").write_text("ä", encoding="utf-8")

    with AdbTransport(serial) as device:
        there = device.put(tmp_path / "model.bin", companions=[tmp_path / "über uns.txt"])
        again = device.put(tmp_path / "model.bin")
        device.get(there, tmp_path / "back.bin")
        beside = device.run(["ls", there.rpartition("/")[0]], timeout_s=60).stdout
        with pytest.raises(FileNotFoundError, match=r"no file .*/nothing on it"):
            device.get("nothing", tmp_path / "nothing")

    assert again != there
    assert (tmp_path / "back.bin").read_bytes() == (tmp_path / "model.bin").read_bytes()
    assert beside.splitlines() == ["model.bin", "über uns.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.bin", "model.bin", "über uns.txt"]


def test_a_command_tells_how_it_ended_and_what_it_wrote_where(serial: str) -> None:
    with AdbTransport(serial) as device:
        ended = device.run(["sh", "-c", "printf 'out $X'; echo err >&2; exit 7"], timeout_s=60)
        killed = device.run(["sh", "-c", "kill -9 $$"], timeout_s=60)
        with pytest.raises(EnvironmentProblem, match="nosuch: can't be started on it: there is no such program"):
            device.run(["nosuch"], timeout_s=60)

    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "out $X", "err\n")
    assert killed.returncode == -9


def test_the_devices_python_runs_with_what_the_inventory_says(serial: str) -> None:
    known = Device(name="vm", address=f"adb://{serial}", python="/usr/bin/python3", python_path=("/opt/a", "/opt/b"))
    code = "import os, sys; print(sys.executable, sys.path[1:3], os.environ['OMP_NUM_THREADS'], os.environ['MINE'])"

    with AdbTransport(serial, device=known) as device:
        name = device.describe().name
        ran = device.run(["python", "-c", code], timeout_s=60, environment={"MINE": 'it\'s "here"'})

    assert name == "vm"
    assert ran.stdout == "/usr/bin/python3 ['/opt/a', '/opt/b'] 1 it's \"here\"\n"


def test_a_device_without_python_is_told(serial: str) -> None:
    known = Device(name="phone", address=f"adb://{serial}", python="python9")

    with (
        AdbTransport(serial, device=known) as device,
        pytest.raises(EnvironmentProblem, match=r"there is no Python \('python9'\).*native_benchmark"),
    ):
        device.run(["python", "-c", ""], timeout_s=60)


def test_its_name_tells_no_address(serial: str) -> None:
    with AdbTransport(serial) as device:
        named = device.describe()

    assert named.transport == "adb"
    assert serial not in named.name


def test_a_command_that_takes_too_long_is_dead_with_all_that_it_started(serial: str, arm_device: ArmDevice) -> None:
    with AdbTransport(serial) as device:
        with pytest.raises(TimeoutError, match="did not end within 3 s") as caught:
            device.run(["sh", "-c", "echo begun; sleep 91 & sleep 92"], timeout_s=3)
        assert "sleep" not in left_on(arm_device)

    assert caught.value.stdout == "begun\n"  # type: ignore[attr-defined]
    assert left_on(arm_device) == ""


def test_a_broken_link_is_a_lost_device_with_what_had_come_home(serial: str, arm_device: ArmDevice) -> None:
    with AdbTransport(serial) as device:
        threading.Timer(3, adb, ["disconnect", serial]).start()
        with pytest.raises(DeviceLost, match="the link broke: adb says 'not found'") as caught:
            device.run(["sh", "-c", "echo begun; sleep 93 & sleep 94"], timeout_s=60)
        time.sleep(1)
        assert "sleep" not in left_on(arm_device)
        with pytest.raises(DeviceLost, match="the link broke"):  # for good, although it could be reached again
            device.run(["true"], timeout_s=60)

    assert caught.value.stdout == "begun\n"
    assert left_on(arm_device) == ""  # connected once more, to remove the folder


def test_an_adbd_that_was_killed_is_a_lost_device_and_leaves_nothing_running(
    serial: str, arm_device: ArmDevice
) -> None:
    again = "pkill -9 adbd; sleep 1; ADBD_PORT=5555 setsid /usr/lib/android-sdk/platform-tools/adbd >/dev/null 2>&1 </dev/null &"
    with AdbTransport(serial) as device:
        threading.Timer(3, arm_device.ssh, ["sh", "-c", again]).start()
        with pytest.raises(DeviceLost, match="the link broke") as caught:
            device.run(["sh", "-c", "echo begun; sleep 95 & sleep 96"], timeout_s=60)
        assert "sleep 9" not in left_on(arm_device)

    assert caught.value.stdout == "begun\n"


def test_a_frozen_device_is_lost_within_a_minute(serial: str, arm_device: ArmDevice) -> None:
    with AdbTransport(serial) as device:
        threading.Timer(3, os.kill, [arm_device.pid, signal.SIGSTOP]).start()
        started = time.monotonic()
        try:
            with pytest.raises(DeviceLost, match="it no longer answers: it is frozen") as caught:
                device.run(["sh", "-c", "echo begun; sleep 99"], timeout_s=200)
        finally:
            os.kill(arm_device.pid, signal.SIGCONT)

    assert time.monotonic() - started < 75
    assert caught.value.stdout == "begun\n"
    assert left_on(arm_device) == ""


def test_what_a_killed_edgepack_left_is_removed_by_the_next(serial: str, arm_device: ArmDevice) -> None:
    dead = leftovers.new_folder_name().rsplit("-", 3)
    folder = f"/data/local/tmp/{dead[0]}-{dead[1]}-1-0123abcd"
    leave = f"mkdir {folder}; cd {folder}; setsid sh -c 'echo $$ >.running; exec sleep 98' >/dev/null 2>&1 </dev/null &"
    arm_device.ssh("sh", "-c", leave)
    time.sleep(1)

    with AdbTransport(serial):
        left = left_on(arm_device)

    assert folder not in left
    assert "sleep 98" not in left
    assert left_on(arm_device) == ""


def test_a_full_disk_is_named(serial: str, arm_device: ArmDevice, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(3_000_000))
    arm_device.ssh("sh", "-c", "mount -t tmpfs -o size=2m tmpfs /data/local/tmp")
    try:
        with (
            AdbTransport(serial) as device,
            pytest.raises(EnvironmentProblem, match=r"model\.bin: can't be copied to it: its storage is full"),
        ):
            device.put(tmp_path / "model.bin")
    finally:
        arm_device.ssh("umount", "/data/local/tmp")


def test_a_process_that_the_kernel_ended_for_want_of_memory_is_told(serial: str) -> None:
    code = "import os; os.write(1, b'begun'); hoard = [bytearray(64_000_000) for _ in range(100)]"

    with AdbTransport(serial) as device:
        ended = device.run(["python", "-c", code], timeout_s=120)

    assert (ended.returncode, ended.stdout) == (-9, "begun")
    assert "[edgepack] the device ran out of memory and its kernel (OOM killer) ended the process" in ended.stderr


def test_a_run_that_the_link_cut_off_leaves_its_samples(serial: str, tiny_tflite: Path) -> None:
    known = Device(name="vm", address=f"adb://{serial}", python_path=("/opt/litert",))

    with AdbTransport(serial, device=known) as device:
        agent = device.put(agent_file())
        spec = AgentSpec(model=device.put(tiny_tflite), iterations_min=10_000_000, max_s=100)
        whole = AgentSpec(model=spec.model, iterations_min=60)
        report = ask(device, agent=agent, spec=put_spec(device, whole), label="tiny", timeout_s=120)
        threading.Timer(20, adb, ["disconnect", serial]).start()
        with pytest.raises(LostInRun, match=r"bench tiny: .*the link broke") as caught:
            ask(device, agent=agent, spec=put_spec(device, spec), label="tiny", timeout_s=120)

    assert len(report.samples_ns) >= 60
    assert report.environment.emulated == "QEMU"
    assert len(caught.value.partial.samples_ns) > 100


def test_the_clock_of_the_deterministic_device_ends_nothing_early(deterministic_arm_device: ArmDevice) -> None:
    """Idle time passes at once there, so no watcher may sleep."""
    with AdbTransport(deterministic_arm_device.adb_address) as device:
        ended = device.run(["sh", "-c", "sleep 100; sleep 100; echo end"], timeout_s=60)

    assert (ended.returncode, ended.stdout) == (0, "end\n")
    adb("disconnect", deterministic_arm_device.adb_address)
