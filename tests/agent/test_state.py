from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from edgepack.agent.bench.facts import device_facts
from edgepack.agent.bench.state import device_state
from edgepack.agent.bench.virtual import UNSURE, clock, emulator
from edgepack.records import DeviceState, Environment

Put = Callable[[str, str], None]
CPU = "sys/devices/system/cpu"


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a file below a root that takes the place of '/'."""

    def write(name: str, content: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    return write


def test_every_value_that_is_null_has_a_reason(tmp_path: Path) -> None:
    for told in (device_state(tmp_path, ask_services=True), device_facts(tmp_path)):
        untold = {name for name, value in told.items() if value is None} - {"emulated"}
        assert untold == set(told["missing"])


def test_the_records_read_what_the_agent_tells() -> None:
    state, facts = device_state(), device_facts()

    read = TypeAdapter(DeviceState).validate_python(state, strict=False)
    place = TypeAdapter(Environment).validate_python({**facts, "runtime": "none", "runtime_version": "none"})

    assert (read.load_average, read.missing) == (state["load_average"], state["missing"])
    assert (place.kernel, place.cores, place.clock) == (facts["kernel"], facts["cores"], facts["clock"])


def test_a_board_tells_governor_frequencies_and_heat(tmp_path: Path, put: Put) -> None:
    for core, kilohertz in enumerate((1_500_000, 600_000)):
        put(f"{CPU}/cpu{core}/cpufreq/scaling_governor", "ondemand\n")
        put(f"{CPU}/cpu{core}/cpufreq/scaling_cur_freq", f"{kilohertz}\n")
    put("sys/class/thermal/thermal_zone0/temp", "48312\n")
    put("proc/meminfo", "MemTotal: 3884360 kB\nMemAvailable:    3000000 kB\n")

    state = device_state(tmp_path)

    assert (state["governor"], state["frequencies_mhz"], state["temperature_c"]) == ("ondemand", [1500, 600], 48.312)
    assert state["free_memory_bytes"] == 3_000_000 * 1024


@pytest.mark.parametrize(("flags", "throttled"), [("0x0", False), ("0x50000", False), ("0x50005", True), ("4", True)])
def test_a_raspberry_pi_tells_its_flags_of_now(tmp_path: Path, put: Put, flags: str, throttled: bool) -> None:
    put("sys/devices/platform/soc/soc:firmware/get_throttled", flags + "\n")

    assert device_state(tmp_path)["throttled"] is throttled


def test_a_cooling_device_of_the_cpu_counts_and_a_fan_does_not(tmp_path: Path, put: Put) -> None:
    put("sys/class/thermal/cooling_device0/type", "pwm-fan\n")
    put("sys/class/thermal/cooling_device0/cur_state", "3\n")
    assert device_state(tmp_path)["throttled"] is None

    put("sys/class/thermal/cooling_device1/type", "thermal-cpufreq-0\n")
    put("sys/class/thermal/cooling_device1/cur_state", "2\n")
    put("sys/class/thermal/cooling_device1/stats/total_trans", "17\n")
    state = device_state(tmp_path)
    assert (state["throttled"], state["throttle_count"]) == (True, 17)


def test_a_pc_counts_its_throttling(tmp_path: Path, put: Put) -> None:
    for core in range(2):
        put(f"{CPU}/cpu{core}/thermal_throttle/core_throttle_count", "3\n")
        put(f"{CPU}/cpu{core}/thermal_throttle/package_throttle_count", "10\n")

    assert device_state(tmp_path)["throttle_count"] == 16, "each core's own, and the package's once"


def test_a_battery_tells_charge_and_power(tmp_path: Path, put: Put) -> None:
    put("sys/class/power_supply/mouse/type", "Battery\n")
    put("sys/class/power_supply/mouse/scope", "Device\n")
    put("sys/class/power_supply/mouse/capacity", "12\n")
    assert device_state(tmp_path)["battery_percent"] is None

    put("sys/class/power_supply/zbattery/type", "Battery\n")
    put("sys/class/power_supply/zbattery/capacity", "83\n")
    put("sys/class/power_supply/zbattery/status", "Discharging\n")
    state = device_state(tmp_path)
    assert (state["battery_percent"], state["charging"]) == (83.0, False)


def test_a_board_names_itself_its_chip_and_every_kind_of_core(tmp_path: Path, put: Put) -> None:
    put("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    put("proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0")
    cores = "".join(
        f"processor : {n}\nCPU implementer : 0x41\nCPU part : {part}\n\n" for n, part in enumerate(("0xd05", "0xd0b"))
    )
    put("proc/cpuinfo", cores)
    put("etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')

    facts = device_facts(tmp_path)

    assert facts["soc"] == "Raspberry Pi 5 Model B Rev 1.0 (brcm,bcm2712)"
    assert facts["cpu_model"] == "Arm implementer 0x41 part 0xd05 and 0xd0b"
    assert facts["os_name"] == "Debian GNU/Linux 12 (bookworm)"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("console=ttyAMA0", (None, "ns")),
        ("quiet edgepack.emulator=qemu", ("QEMU", "ns")),
        ("edgepack.emulator=qemu edgepack.clock=instructions", ("QEMU", "guest_instructions")),
    ],
)
def test_the_virtual_device_says_what_it_is(
    tmp_path: Path, put: Put, words: str, expected: tuple[str | None, str]
) -> None:
    put("proc/cmdline", words + "\n")

    assert (emulator(tmp_path), clock(tmp_path)) == expected


def test_qemu_is_recognized_where_it_does_not_say_so(tmp_path: Path, put: Put) -> None:
    put("proc/device-tree/compatible", "linux,dummy-virt\0")
    assert emulator(tmp_path) == UNSURE

    put("sys/devices/system/clocksource/clocksource0/available_clocksource", "kvm-clock tsc\n")
    assert emulator(tmp_path) is None, "a virtual machine that runs on the host's own CPU is not emulated"

    put("proc/cpuinfo", "model name : QEMU TCG CPU version 2.5+\n")
    assert emulator(tmp_path) == "QEMU"


def test_android_tells_its_thermal_status_release_and_chip(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two programs that answer as Android's do."""
    put("bin/dumpsys", "#!/bin/sh\necho 'IsStatusOverride: false'\necho 'Thermal Status: 3'\n")
    put("bin/getprop", "#!/bin/sh\ncase $1 in ro.soc.model) echo Tensor;; ro.build.version.release) echo 15;; esac\n")
    for program in (tmp_path / "bin").iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    facts = device_facts(tmp_path)

    assert device_state(tmp_path, ask_services=True)["thermal_status"] == 3
    assert (facts["os_name"], facts["soc"]) == ("Android 15", "Tensor")
    assert device_state(tmp_path)["missing"]["thermal_status"] == "asked before and after only"
