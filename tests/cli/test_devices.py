"""`edgepack devices`: the list, one device, all of them; and what the shell completes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from arm_device.machine import ArmDevice
from click.testing import Result

from edgepack.cli.devices import devices
from edgepack.cli.options import complete_device
from edgepack.core.errors import EnvironmentProblem, RecipeError, UsageError

Call = Callable[..., Result]
BOARDS = """
[devices.pi5]
address = "ssh://pi@board"
tags = ["kitchen"]

[devices.phone]
address = "adb://R58M123ABC"

[devices.bench]
address = "local"
"""


@pytest.fixture(autouse=True)
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of devices, and an adb program that sees one device."""
    program = tmp_path / "bin" / "adb"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\necho 'List of devices attached'\necho 'R58M123ABC  unauthorized usb:1-2 transport_id:1'\necho 'HT7 device'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    file = tmp_path / "devices.toml"
    file.write_text(BOARDS)
    monkeypatch.setenv("EDGEPACK_DEVICES", str(file))
    return file


def test_the_list_has_this_machine_the_teams_devices_and_adbs(call: Call) -> None:
    result = call("devices", "--json")

    listed = {one["name"]: one for one in json.loads(result.stdout)["devices"]}
    assert list(listed) == ["local", "pi5", "phone", "bench", "adb://HT7"]
    assert listed["pi5"] == {
        "name": "pi5",
        "address": "ssh://pi@board",
        "known_by": "devices.toml",
        "state": None,
        "tags": ["kitchen"],
    }
    assert listed["phone"]["state"].startswith("unauthorized: it does not trust this computer")
    assert listed["adb://HT7"]["state"] == "connected"


def test_the_table_says_who_was_not_asked(call: Call) -> None:
    lines = call("devices").stdout.splitlines()

    (pi5,) = [line for line in lines if "pi5" in line]
    assert [cell.strip() for cell in pi5.split("│")[1:-1]] == [
        "pi5",
        "ssh://pi@board",
        "devices.toml",
        "not asked",
        "kitchen",
    ]


def test_without_adb_the_others_are_listed_and_it_is_said(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    result = call("devices")

    assert result.exit_code == 0
    assert "pi5" in result.stdout
    assert "devices of adb are not listed: adb: no such program" in result.stderr


def test_this_machine_is_described(call: Call) -> None:
    facts = json.loads(call("devices", "bench", "--json").stdout)

    assert facts["device"] == {"transport": "local", "name": "bench"}
    assert facts["told_by"] == "agent"
    assert sum(facts["cores"].values()) >= 1
    assert facts["memory_bytes"] > 1e8
    assert facts["runtimes"]["litert"]["version"].startswith("2.")
    assert facts["why_no_agent"] is None


def test_a_device_without_python_is_described_by_its_shell(call: Call, boards: Path) -> None:
    boards.write_text('[devices.bare]\naddress = "local"\npython = "/no/python3"\n')

    facts = json.loads(call("devices", "bare", "--json").stdout)

    assert facts["told_by"] == "shell"
    assert "/no/python3: can't be started" in facts["why_no_agent"]
    assert facts["runtimes"] is None
    assert facts["memory_bytes"] > 1e8
    assert facts["kernel"].startswith("Linux ")


def test_an_unknown_device_is_refused_with_the_nearest(call: Call) -> None:
    result = call("devices", "pi6")

    assert result.exit_code == UsageError.exit_code
    assert "(did you mean 'pi5'?)" in result.stderr


def test_a_list_with_a_mistake_is_named(call: Call, boards: Path) -> None:
    boards.write_text("[devices.pi5]\naddres = 'local'\n")

    result = call("devices")

    assert result.exit_code == RecipeError.exit_code
    assert "unknown key 'addres' (did you mean 'address'?)" in result.stderr


def test_every_device_is_asked_and_those_that_fail_are_named(call: Call, boards: Path) -> None:
    boards.write_text('[devices.bench]\naddress = "local"\n[devices.phone]\naddress = "adb://R58M123ABC"\n')

    result = call("devices", "--probe", "--json", PATH="/usr/bin:/bin")

    assert result.exit_code == EnvironmentProblem.exit_code
    assert "can't be used now: phone" in result.stderr
    here, bench, phone = json.loads(result.stdout)["devices"][:3]
    assert here["facts"]["memory_bytes"] == bench["facts"]["memory_bytes"]
    assert "adb" in phone["error"]


def test_the_shell_completes_names_addresses_and_serials(boards: Path) -> None:
    context, parameter = devices.make_context("devices", []), devices.params[0]

    assert complete_device(context, parameter, "p") == ["pi5", "phone"]
    assert complete_device(context, parameter, "adb") == ["adb://"]
    assert complete_device(context, parameter, "adb://") == ["adb://", "adb://R58M123ABC", "adb://HT7"]
    boards.write_text("[devices\n")
    assert complete_device(context, parameter, "l") == ["local", "labgrid://"]


@pytest.mark.device
@pytest.mark.slow
def test_an_arm64_board_is_described_over_ssh(
    call: Call, boards: Path, arm_device: ArmDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_SSH_CONFIG", str(arm_device.ssh_config))
    boards.write_text('[devices.vm]\naddress = "ssh://arm-device"\npython_path = ["/opt/litert"]\n')

    result = call("devices", "vm", "--json")

    facts = json.loads(result.stdout)
    assert facts["machine"] == "aarch64"
    assert facts["cores"] == {"Cortex-A76": 1}
    assert facts["emulated"].startswith("QEMU")
    assert facts["runtimes"]["litert"]["version"] == "2.3.0"
    assert facts["runtimes"]["openvino"]["missing"]
