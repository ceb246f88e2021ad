from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from arm_device import machine
from arm_device.machine import ArmDevice


@pytest.mark.device
def test_it_is_an_arm64_linux_that_says_it_is_emulated(arm_device: ArmDevice) -> None:
    assert arm_device.ssh("uname", "-m").stdout == "aarch64\n"
    assert "edgepack.emulator=qemu" in arm_device.ssh("cat", "/proc/cmdline").stdout
    assert "edgepack.clock" not in arm_device.ssh("cat", "/proc/cmdline").stdout


@pytest.mark.device
def test_it_has_the_runtimes_and_an_ordinary_user(arm_device: ArmDevice) -> None:
    runtimes = arm_device.ssh("ls", "/opt").stdout.split()

    assert runtimes == [file.stem for file in sorted((machine.HERE / "wheels").glob("*.txt"))]
    assert arm_device.ssh("id", "-un", root=False).stdout == "edge\n"


@pytest.mark.device
def test_nothing_can_be_reached_from_it(arm_device: ArmDevice) -> None:
    code = "import socket; socket.create_connection(('10.0.2.2', 22), timeout=3)"

    assert "Error" in arm_device.ssh("python3", "-c", code).stderr


@pytest.mark.device
def test_its_clock_counts_instructions_in_the_deterministic_mode(deterministic_arm_device: ArmDevice) -> None:
    code = (
        "import time\nfor _ in range(6):\n a = time.perf_counter_ns()\n sum(range(1000000))\n"
        " print(time.perf_counter_ns() - a)"
    )

    assert "edgepack.clock=instructions" in deterministic_arm_device.ssh("cat", "/proc/cmdline").stdout
    counts = [int(line) for line in deterministic_arm_device.ssh("python3", "-c", code).stdout.split()][1:]
    assert max(counts) / min(counts) < 1.001


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FOLDER", tmp_path / "none")
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    with pytest.raises(machine.NoArmDevice, match=r"building one needs root, once|to build one isn't installed"):
        machine.find_image(build=True)

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        machine.NoArmDevice, match=r"qemu-system-aarch64, ssh, bash isn't installed \(Debian: qemu-system-arm"
    ):
        machine.start(tmp_path)
    with pytest.raises(
        machine.NoArmDevice, match=r"mmdebstrap, cpio, mkfs\.ext4, ssh-keygen to build one isn't installed"
    ):
        machine.find_image(build=True)


@pytest.mark.device
def test_a_stopped_machine_is_gone(tmp_path: Path) -> None:
    try:
        machine.find_image(build=False)
        device = machine.start(tmp_path, dies_with_us=True)
    except machine.NoArmDevice as exc:
        pytest.skip(str(exc))

    machine.stop(device)
    machine.stop(device)

    deadline = time.monotonic() + 10
    while Path(f"/proc/{device.pid}/exe").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises((AssertionError, subprocess.SubprocessError)):
        assert device.ssh("true", limit_s=5).returncode == 0
