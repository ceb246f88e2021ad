"""What adb sees, from what the real program prints, and whose a folder on a device is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack.core.errors import EnvironmentProblem, UsageError
from edgepack.devices import leftovers
from edgepack.devices.adb import AdbTransport
from edgepack.devices.adb_client import AdbDevice, parsed

# As adb 34.0.5 prints it; the line without permissions is of version 29.
LISTING = """\
* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
R58M123ABC             device usb:1-4 product:beyond1 model:SM_G973F device:beyond1 transport_id:3
0123456789ABCDEF       unauthorized usb:1-2 transport_id:1
192.168.1.17:5555      offline product:x model:y device:z transport_id:5
HT7A1                  no permissions (missing udev rules? user is in the plugdev group); see [http://developer.android.com/tools/device.html] usb:1-3 transport_id:4

"""


def test_every_device_is_listed_with_its_state_and_what_to_do() -> None:
    usable, unauthorized, offline, forbidden = parsed(LISTING)

    assert usable == AdbDevice(
        serial="R58M123ABC",
        state="device",
        facts={"usb": "1-4", "product": "beyond1", "model": "SM_G973F", "device": "beyond1", "transport_id": "3"},
    )
    assert usable.trouble is None
    assert "Allow USB debugging" in (unauthorized.trouble or "")
    assert "adb reconnect offline" in (offline.trouble or "")
    assert "udev" in (forbidden.trouble or "")
    assert forbidden.serial == "HT7A1"


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """An adb program that knows the devices of a listing and nothing else."""

    def make(devices: str) -> None:
        program = tmp_path / "bin" / "adb"
        program.parent.mkdir()
        program.write_text(
            f"#!/bin/sh\nif [ $1 = connect ]; then echo \"failed to connect to '$2': Connection refused\"; exit; fi\n"
            f"cat <<'END'\nList of devices attached\n{devices}\nEND\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return make


def test_without_the_program_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(EnvironmentProblem, match=r"adb: no such program .* Debian's package 'adb'"):
        AdbTransport("X")


@pytest.mark.parametrize(
    ("devices", "asked", "error", "said"),
    [
        ("A1  device\nB2  device", "", UsageError, r"more than one device: .* adb://A1 \(known: A1, B2\)"),
        ("A1  device\nB2  device", "B3", UsageError, r"adb://B3: adb knows no such device \(known: A1, B2\)"),
        ("A1  device\nB2  device", "zzz", UsageError, r"no such device \(known: A1, B2\)"),
        ("", "A1", UsageError, r"adb sees no device at all"),
        ("", "", EnvironmentProblem, r"adb sees no device: connect one with USB debugging"),
        ("A1  unauthorized", "A1", EnvironmentProblem, r"adb://A1: unauthorized: .*Allow USB debugging"),
        ("A1  offline", "", EnvironmentProblem, r"adb://A1: offline: "),
        ("A1  device", "10.1.2.3:5555", EnvironmentProblem, r"failed to connect to '10\.1\.2\.3:5555'.*adb tcpip"),
    ],
)
def test_a_device_that_cant_be_used_is_refused_with_what_to_do(
    says: Callable[[str], None], devices: str, asked: str, error: type[Exception], said: str
) -> None:
    says(devices)

    with pytest.raises(error, match=said):
        AdbTransport(asked)


@pytest.mark.parametrize(
    ("name", "idle_s", "expected"),
    [
        ("edgepack-00000000-1-2-0123abcd", 3600, False),
        ("edgepack-00000000-1-2-0123abcd", 90_000, True),
        ("edgepack-notes", 1e9, False),
    ],
)
def test_a_folder_of_another_computer_is_left_alone_for_a_day(name: str, idle_s: float, expected: bool) -> None:
    assert leftovers.is_left_behind(name, idle_s=idle_s) is expected


def test_a_folder_of_a_process_that_lives_is_never_left_behind() -> None:
    mine = leftovers.new_folder_name()

    assert not leftovers.is_left_behind(mine, idle_s=1e9)
    leftovers.give_up(mine)
    assert leftovers.is_left_behind(mine, idle_s=0)
    head, process, started, token = mine.rsplit("-", 3)
    assert leftovers.is_left_behind(f"{head}-{process}-{int(started) - 1}-{token}", idle_s=0)
