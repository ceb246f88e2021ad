"""What a device is and has: asked of its shell, which every device has, and of the agent where there is a Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgepack.core.errors import EdgepackError
from edgepack.devices.agent import FoundRuntime, Probe, probe
from edgepack.devices.protocol import DeviceLost, Transport
from edgepack.records import Clock, DeviceName, DeviceState

_SHELL_S, _AGENT_S = 60.0, 240.0  # under emulation; a board takes 0.1 and 10 s
# 'key value' lines. What a device doesn't have gives no line. getprop is Android's.
_SCRIPT = r"""
prop() { v=$(getprop "$2" 2>/dev/null); [ -n "$v" ] && echo "$1 $v"; }
echo "system $(uname -s)"; echo "machine $(uname -m)"; echo "kernel $(uname -r)"
while read -r line; do case "$line" in PRETTY_NAME=*) echo "os_name ${line#PRETTY_NAME=}";; esac; done </etc/os-release 2>/dev/null
prop android ro.build.version.release; prop soc ro.soc.model; prop model ro.product.model; prop api_level ro.build.version.sdk
[ -r /proc/device-tree/compatible ] && tr '\000' '\n' </proc/device-tree/compatible | tail -n 1 | sed 's/^/soc_tree /'
getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/^/libc /'
grep -E '^(CPU implementer|CPU part|model name)' /proc/cpuinfo | sed 's/^/cpuinfo /'
grep -E '^MemTotal' /proc/meminfo | sed 's/^/memory /'
for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq; do [ -r "$f" ] && echo "max_khz $(cat "$f")"; done
for n in /dev/apex_* /dev/accel/accel* /dev/dri/renderD* /dev/nvidia[0-9]* /dev/mali0 /dev/kgsl-3d0 /dev/galcore /dev/ethosu*; do [ -e "$n" ] && echo "node $n"; done
for w in $(cat /proc/cmdline 2>/dev/null); do case "$w" in edgepack.emulator=*) echo "emulator ${w#*=}";; edgepack.clock=*) echo "clock ${w#*=}";; esac; done
[ "$(getprop ro.boot.qemu 2>/dev/null)" = 1 ] && echo "emulator Android's"
grep -qs dummy-virt /proc/device-tree/compatible && echo "emulator qemu"
echo "boot_id $(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
for l in /system/lib64/libneuralnetworks.so /apex/com.android.neuralnetworks/lib64/libneuralnetworks.so; do [ -e "$l" ] && echo "nnapi $l"; done
true
"""
_NODES = {
    "apex": "Coral Edge TPU",
    "accel": "NPU",
    "renderD": "GPU",
    "nvidia": "NVIDIA GPU",
    "mali": "Arm Mali GPU",
    "kgsl": "Qualcomm Adreno GPU",
    "galcore": "Vivante GPU or NPU",
    "ethosu": "Arm Ethos-U NPU",
}
# Implementer and part of MIDR_EL1, as Linux' arch/arm64/include/asm/cputype.h and Arm's manuals name them.
_ARM_CORES = {
    ("0x41", "0xc07"): "Cortex-A7",
    ("0x41", "0xc09"): "Cortex-A9",
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd48"): "Cortex-X2",
    ("0x41", "0xd4d"): "Cortex-A715",
    ("0x41", "0xd4e"): "Cortex-X3",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720",
    ("0x41", "0xd82"): "Cortex-X4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a device is and has. `told_by` is 'agent', or 'shell' where no Python could be asked: then `why_no_agent` says why, and runtimes are unknown.

    `cores` maps each kind of core to its number. A fact that the device doesn't tell is None, and `missing` says why where that is known.
    """

    device: DeviceName
    told_by: str
    machine: str
    kernel: str
    os_name: str | None = None
    libc: str | None = None
    model: str | None = None
    soc: str | None = None
    cores: Mapping[str, int] = field(default_factory=dict)
    usable_cores: int | None = None
    max_mhz: tuple[float, ...] | None = None
    memory_bytes: int | None = None
    python: str | None = None
    runtimes: Mapping[str, FoundRuntime] | None = None
    accelerators: tuple[str, ...] = ()
    emulated: str | None = None
    clock: Clock = "ns"
    boot_id: str | None = None
    state: DeviceState | None = None
    why_no_agent: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


def facts_of(device: Transport) -> DeviceFacts:
    """What a device is and has. Raises DeviceLost when it goes away meanwhile."""
    facts = shell_facts_of(device)
    try:
        return _with_agent(facts, probe(device, timeout_s=_AGENT_S))
    except DeviceLost:
        raise
    except EdgepackError as exc:  # no Python, one that is too old, or broken: said, and the shell's answer stands
        return replace(facts, why_no_agent=str(exc))


def shell_facts_of(device: Transport) -> DeviceFacts:
    """What its shell tells, without the agent."""
    return shell_facts(device.run(["sh", "-c", _SCRIPT], timeout_s=_SHELL_S).stdout, device.describe())


def shell_facts(output: str, name: DeviceName) -> DeviceFacts:
    """The facts in the output of the shell script."""
    lines = [(key, value.strip()) for key, _, value in (line.partition(" ") for line in output.splitlines())]
    first = dict(reversed(lines))
    max_mhz = tuple(float(value) / 1000 for key, value in lines if key == "max_khz")
    os_name = f"Android {first['android']}" if "android" in first else first.get("os_name", "").strip('"')
    libc = f"bionic, API level {first.get('api_level')}" if "android" in first else first.get("libc")
    emulator = first.get("emulator", "")
    return DeviceFacts(
        device=name,
        told_by="shell",
        machine=first.get("machine", "unknown"),
        kernel=f"{first.get('system', '')} {first.get('kernel', '')}".strip() or "unknown",
        os_name=os_name or None,
        libc=libc,
        model=first.get("model"),
        soc=first.get("soc") or first.get("soc_tree"),
        cores=_cores([value for key, value in lines if key == "cpuinfo"]),
        max_mhz=max_mhz or None,
        memory_bytes=_kilobytes(first.get("memory", "")),
        accelerators=_accelerators(lines),
        emulated={"qemu": "QEMU", "Android's": "the Android emulator"}.get(emulator, emulator or None),
        clock="guest_instructions" if first.get("clock") == "instructions" else "ns",
        boot_id=first.get("boot_id") or None,
        missing={} if max_mhz else {"max_mhz": "no cpufreq in /sys (a virtual machine?)"},
    )


def _with_agent(facts: DeviceFacts, told: Probe) -> DeviceFacts:
    """The agent's facts over the shell's, which know more about cores, their frequencies and Android."""
    found = told.environment
    return replace(
        facts,
        told_by="agent",
        machine=found.machine,
        os_name=facts.os_name or found.os_name,
        libc=facts.libc or found.libc,
        soc=found.soc or facts.soc,
        cores=facts.cores or {found.cpu_model or "unknown": found.cores},
        usable_cores=found.usable_cores,
        memory_bytes=found.memory_bytes or facts.memory_bytes,
        python=found.python,
        runtimes=dict(told.runtimes),
        accelerators=_together(told.accelerators, facts.accelerators),
        emulated=found.emulated,
        clock=found.clock,
        boot_id=found.boot_id or facts.boot_id,
        state=told.state,
        missing={**found.missing, **facts.missing},
    )


def _together(agents: Sequence[str], shells: Sequence[str]) -> tuple[str, ...]:
    """The agent's accelerators, and those that only the shell found; the same device file counts once."""
    told = " ".join(agents)
    return (*agents, *(one for one in shells if one.partition("(/")[2].rstrip(")") not in told or "(/" not in one))


def _cores(lines: list[str]) -> dict[str, int]:
    """How many cores of each kind, from /proc/cpuinfo: x86 says a name for each, Arm an implementer and a part."""
    pairs = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
    names = [value for key, value in pairs if key == "model name"]
    makers = [value for key, value in pairs if key == "CPU implementer"]
    parts = [value for key, value in pairs if key == "CPU part"]
    if parts:  # 32-bit Arm says a model name, too, the same for all kinds
        kinds = zip(makers, parts, strict=False)
        names = [_ARM_CORES.get(kind, f"Arm implementer {kind[0]} part {kind[1]}") for kind in kinds]
    return dict(Counter(names))


def _accelerators(lines: list[tuple[str, str]]) -> tuple[str, ...]:
    found = [
        f"{what} ({value})"
        for key, value in lines
        if key == "node"
        for start, what in _NODES.items()
        if value.rpartition("/")[2].startswith(start)
    ]
    return (*found, *(["Android NNAPI"] if any(key == "nnapi" for key, _ in lines) else []))


def _kilobytes(line: str) -> int | None:
    """'MemTotal:  1004736 kB' in bytes."""
    digits = "".join(filter(str.isdigit, line))
    return 1024 * int(digits) if digits else None
