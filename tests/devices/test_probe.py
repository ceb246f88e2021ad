"""What a device's shell tells, from the words that real devices print."""

from __future__ import annotations

from edgepack.devices.local import LocalTransport
from edgepack.devices.probe import _together, facts_of, shell_facts
from edgepack.records import DeviceName

# The script's output on Android 14 has these lines: getprop's values and /proc/cpuinfo of a Pixel 8 (Tensor G3: 4× A510, 4× A715, 1× X3).
PHONE = (
    """\
system Linux
machine aarch64
kernel 5.15.148-android14-11
android 14
soc Tensor G3
model Pixel 8
api_level 34
"""
    + "".join(
        f"cpuinfo CPU implementer\t: 0x41\ncpuinfo CPU part\t: {part}\n"
        for part in ["0xd46"] * 4 + ["0xd4d"] * 4 + ["0xd4e"]
    )
    + """\
memory MemTotal:        7664604 kB
max_khz 1704000
max_khz 2367000
max_khz 2914000
node /dev/mali0
nnapi /apex/com.android.neuralnetworks/lib64/libneuralnetworks.so
"""
)
NAME = DeviceName(transport="adb", name="Pixel 8 0a1b2c")


def test_a_phone_is_described_by_what_its_shell_prints() -> None:
    facts = shell_facts(PHONE, NAME)

    assert facts.os_name == "Android 14"
    assert facts.libc == "bionic, API level 34"
    assert (facts.model, facts.soc) == ("Pixel 8", "Tensor G3")
    assert facts.cores == {"Cortex-A510": 4, "Cortex-A715": 4, "Cortex-X3": 1}
    assert facts.max_mhz == (1704.0, 2367.0, 2914.0)
    assert facts.memory_bytes == 7664604 * 1024
    assert facts.accelerators == ("Arm Mali GPU (/dev/mali0)", "Android NNAPI")
    assert facts.runtimes is None


def test_an_unknown_core_is_named_by_its_numbers() -> None:
    facts = shell_facts("cpuinfo CPU implementer\t: 0x61\ncpuinfo CPU part\t: 0x022\n", NAME)

    assert facts.cores == {"Arm implementer 0x61 part 0x022": 1}


def test_a_device_that_tells_nothing_is_described_by_that() -> None:
    facts = shell_facts("", NAME)

    assert (facts.machine, facts.kernel, facts.os_name, facts.memory_bytes) == ("unknown", "unknown", None, None)
    assert "max_mhz" in facts.missing


def test_an_accelerator_that_agent_and_shell_both_found_is_named_once() -> None:
    agents = ("GPU (dev/dri/renderD128)", "OpenVINO GPU: Arc")
    shells = ("GPU (/dev/dri/renderD128)", "Coral Edge TPU (/dev/apex_0)", "Android NNAPI")

    assert _together(agents, shells) == (*agents, "Coral Edge TPU (/dev/apex_0)", "Android NNAPI")


def test_this_machine_tells_by_shell_and_agent() -> None:
    with LocalTransport() as here:
        facts = facts_of(here)

    assert facts.told_by == "agent"
    assert facts.os_name
    assert facts.python
    assert facts.runtimes is not None
    assert facts.runtimes["litert"].missing is None
