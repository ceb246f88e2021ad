"""What goes wrong on a real device: the arm64 machine is broken in every way that a board breaks, and looked at afterwards as root."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from arm_device.machine import ArmDevice

from edgepack.core.errors import EnvironmentProblem
from edgepack.devices.protocol import DeviceLost, RunTimeout
from edgepack.devices.ssh.transport import SshTransport

SAMPLES = "import time\nfor n in range(6000): print(n, flush=True); time.sleep(0.1)\n"
ALL_MEMORY = "held = []\nwhile True: held.append(b'x' * 20_000_000); print(len(held), flush=True)\n"
LOST_AFTER_S = 12.0
pytestmark = [pytest.mark.device, pytest.mark.slow]  # two minutes, most of it waiting for what doesn't answer
Open = Callable[[], SshTransport]


@pytest.fixture
def opened(arm_device: ArmDevice, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setenv("EDGEPACK_SSH_CONFIG", str(arm_device.ssh_config))
    transports: list[SshTransport] = []

    def open_it() -> SshTransport:
        transports.append(SshTransport("arm-device", lost_after_s=LOST_AFTER_S, connect_s=30, look_s=90))
        return transports[-1]

    yield open_it
    for transport in transports:
        transport.close()


def start(device: SshTransport, arm: ArmDevice, *, then: str) -> None:
    """Let the device break itself in 2 s, as root, while a command runs."""
    arm.ssh("sh", "-c", f"(sleep 2; {then}) > /dev/null 2>&1 < /dev/null &")


def folder_of(device: SshTransport) -> str:
    return str(device.facts["folder"])


def keeper_of(device: SshTransport) -> str:
    return Path(folder_of(device)).name.split("-")[1]


def nothing_is_left(arm: ArmDevice, folder: str, *, limit_s: float = 60) -> bool:
    """No process of the folder's and no folder, soon."""
    script = f"grep -lz EDGEPACK_DEVICE_FOLDER={folder} /proc/[0-9]*/environ 2> /dev/null; ls -d {folder} 2> /dev/null"
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found = arm.ssh("sh", "-c", script)
        if found.stdout == "" and found.returncode != 255:
            return True
        time.sleep(0.5)
    return False


def works_again(opened: Open) -> bool:
    """A retry, on a connection of its own, gets each word once."""
    return opened().run(["python", "-c", "print(1); print(2)"], timeout_s=120).stdout == "1\n2\n"


def test_a_cut_connection(opened: Open, arm_device: ArmDevice) -> None:
    device = opened()
    start(device, arm_device, then=f"kill -9 $(ps -o ppid= -p {keeper_of(device)})")

    with pytest.raises(
        DeviceLost, match=r"the connection ended.*the device itself ran on, and answers again"
    ) as caught:
        device.run(["python", "-c", SAMPLES], timeout_s=300)

    assert caught.value.stdout.startswith("0\n1\n")
    assert nothing_is_left(arm_device, folder_of(device))
    assert works_again(opened)


def test_a_frozen_process(opened: Open, arm_device: ArmDevice) -> None:
    device = opened()
    start(device, arm_device, then="kill -STOP $(pgrep -f 'range[(]6000')")
    began = time.monotonic()

    with pytest.raises(RunTimeout, match="did not end within 20 s; on the device it was stopped") as caught:
        device.run(["python", "-c", SAMPLES], timeout_s=20)

    assert time.monotonic() - began < 60
    assert caught.value.stdout.startswith("0\n1\n")
    assert device.run(["echo", "still here"], timeout_s=60).stdout == "still here\n"
    device.close()
    assert nothing_is_left(arm_device, folder_of(device))


def test_a_frozen_device(arm_device: ArmDevice, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_SSH_CONFIG", str(arm_device.ssh_config))
    device = SshTransport("arm-device", lost_after_s=LOST_AFTER_S, connect_s=5, look_s=1)
    os.kill(arm_device.pid, signal.SIGSTOP)
    began = time.monotonic()

    try:
        with pytest.raises(DeviceLost, match=r"1 s later it still can't be reached"):
            device.run(["python", "-c", SAMPLES], timeout_s=300)
        assert time.monotonic() - began < 3 * LOST_AFTER_S + 30
    finally:
        os.kill(arm_device.pid, signal.SIGCONT)

    assert nothing_is_left(arm_device, folder_of(device), limit_s=90)
    assert works_again(opened)
    device.close()


def test_a_frozen_server(opened: Open, arm_device: ArmDevice) -> None:
    """The device's side of the connection hangs, while the device works."""
    device = opened()
    start(device, arm_device, then=f"kill -STOP {keeper_of(device)}")

    with pytest.raises(
        DeviceLost, match=f"has not answered for {LOST_AFTER_S:g} s; the device itself ran on"
    ) as caught:
        device.run(["python", "-c", SAMPLES], timeout_s=300)

    assert caught.value.stdout.startswith("0\n1\n")
    arm_device.ssh("kill", "-CONT", keeper_of(device))
    assert nothing_is_left(arm_device, folder_of(device))


def test_a_full_disk(opened: Open, arm_device: ArmDevice, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(3_000_000))
    write = "open('out.bin', 'wb').write(bytes(5_000_000))"
    device = opened()
    arm_device.ssh("sh", "-c", "fallocate -l $(df --output=avail -B1 / | tail -1) /fill")
    arm_device.ssh("sh", "-c", "cat /dev/zero > /fill2 2> /dev/null; true")

    try:
        with pytest.raises(
            EnvironmentProblem, match=r"not enough disk space on the device for model\.bin: 3\.0 MB are needed"
        ):
            device.put(tmp_path / "model.bin")
        done = device.run(["python", "-c", write], timeout_s=120)
        assert done.returncode == 1
        assert "[edgepack] the device's disk is full" in done.stderr
        device.close()
        assert nothing_is_left(arm_device, folder_of(device))
    finally:
        arm_device.ssh("rm", "-f", "/fill", "/fill2")
    assert works_again(opened)


def test_memory_that_runs_out(opened: Open, arm_device: ArmDevice) -> None:
    device = opened()

    done = device.run(["python", "-c", ALL_MEMORY], timeout_s=300)

    assert done.returncode == -signal.SIGKILL
    assert done.stdout.startswith("1\n2\n")
    assert "[edgepack] the device ran out of memory and its kernel (OOM killer) ended the process; " in done.stderr
    assert device.run(["echo", "still here"], timeout_s=60).stdout == "still here\n"
    device.close()
    assert nothing_is_left(arm_device, folder_of(device))
    assert arm_device.ssh("ls", "-A", "/var/tmp").stdout == ""


def test_a_clock_that_jumps(opened: Open, arm_device: ArmDevice) -> None:
    device = opened()
    work = "import time\na = time.monotonic()\ntime.sleep(8)\nprint(time.monotonic() - a < 60)"
    start(device, arm_device, then="date -s @$(($(date +%s) + 86400))")

    try:
        done = device.run(["python", "-c", work], timeout_s=120)
    finally:
        arm_device.ssh("sh", "-c", "date -s @$(($(date +%s) - 86400))")

    assert (done.returncode, done.stdout) == (0, "True\n")
    assert re.search(
        r"\[edgepack\] the device's wall clock jumped by \+86(399|400) s", done.stderr
    )  # date sets whole seconds
    assert device.run(["echo", "still here"], timeout_s=60).stdout == "still here\n"


def test_a_restart(opened: Open, arm_device: ArmDevice, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    device = opened()
    device.put(tmp_path / "a.txt")
    start(device, arm_device, then="sync; busybox reboot -f")

    with pytest.raises(DeviceLost, match="it restarted, and answers again") as caught:
        device.run(["python", "-c", SAMPLES], timeout_s=300)

    assert caught.value.stdout.startswith("0\n")
    assert nothing_is_left(arm_device, folder_of(device))
    assert works_again(opened)
