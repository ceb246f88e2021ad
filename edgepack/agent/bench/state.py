"""What changes on a device: load, frequencies, heat, throttling, memory, battery. Read between inferences, never inside a timed one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from .files import ROOT, number, read, read_all, table, with_reasons

STARTED_S = time.monotonic()
_CPUFREQ, _NO_CPUFREQ = "sys/devices/system/cpu/cpu[0-9]*/cpufreq/", "no cpufreq in /sys (a virtual machine?)"
# The firmware's flags: 0x1 under-voltage, 0x2 frequency capped, 0x4 throttled, 0x8 soft temperature limit, now
# (https://www.raspberrypi.com/documentation/computers/os.html#get_throttled).
_PI_THROTTLED, _PI_NOW = "sys/devices/platform/soc*/soc*firmware/get_throttled", 0xF
# Cooling devices that slow the CPU (Documentation/driver-api/thermal/sysfs-api.rst); a fan is none.
_CPU_COOLING = re.compile(r"cpufreq|cpuidle|^Processor$|^thermal-cpu", re.IGNORECASE)
_DUMPSYS_TIMEOUT_S = 5.0
_REASONS = {
    "governor": _NO_CPUFREQ,
    "frequencies_mhz": _NO_CPUFREQ,
    "temperature_c": "no thermal zone in /sys (a virtual machine?)",
    "throttled": "neither a firmware flag nor a cooling device of the CPU in /sys",
    "throttle_count": "no counter in /sys (thermal_throttle, cooling device statistics)",
    "free_memory_bytes": "not in /proc/meminfo",
    "battery_percent": "no battery in /sys/class/power_supply",
    "charging": "no battery in /sys/class/power_supply",
    "thermal_status": "not Android",
}


def device_state(root: Path = ROOT, *, ask_services: bool = False) -> dict[str, Any]:
    """The state as `records.DeviceState` has it. `ask_services` also starts a program that asks Android's thermal service, which takes a while."""
    governors = set(read_all(_CPUFREQ + "scaling_governor", root))
    kilohertz = [number(text) for text in read_all(_CPUFREQ + "scaling_cur_freq", root)]
    millidegrees = [number(text) for text in read_all("sys/class/thermal/thermal_zone*/temp", root)]
    memory = table(read(root / "proc/meminfo")).get("MemAvailable")
    battery, charging = _battery(root)
    state: dict[str, Any] = {
        "at_s": round(time.monotonic() - STARTED_S, 6),
        "wall_s": time.time(),
        "load_average": os.getloadavg()[0],
        "governor": ", ".join(sorted(governors)) or None,
        "frequencies_mhz": [value / 1e3 for value in kilohertz if value is not None] or None,
        "temperature_c": max((value / 1e3 for value in millidegrees if value is not None), default=None),
        "throttled": _throttled(root),
        "throttle_count": _throttle_count(root),
        "free_memory_bytes": None if memory is None else int(memory.split()[0]) * 1024,
        "battery_percent": battery,
        "charging": charging,
        "thermal_status": _thermal_status() if ask_services else None,
    }
    reasons = _REASONS if ask_services else dict(_REASONS, thermal_status="asked before and after only")
    return with_reasons(state, reasons)


def _throttled(root: Path) -> bool | None:
    """Whether the firmware (Raspberry Pi) or the kernel's thermal framework holds the CPU back now."""
    for text in read_all(_PI_THROTTLED, root):
        return bool(int(text, 16) & _PI_NOW)
    states = [number(read(folder / "cur_state")) for folder in _cpu_cooling(root)]
    known = [state for state in states if state is not None]
    return any(state > 0 for state in known) if known else None


def _throttle_count(root: Path) -> int | None:
    """How often the CPU was throttled since boot: x86's counters of the first core and its package, else the cooling devices' steps."""
    cores = [
        number(text) for text in read_all("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count", root)
    ]
    package = [
        number(text) for text in read_all("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", root)
    ]
    steps = [number(read(folder / "stats/total_trans")) for folder in _cpu_cooling(root)]
    counted = [value for value in (cores + package) or steps if value is not None]
    return int(sum(counted)) if counted else None


def _cpu_cooling(root: Path) -> list[Path]:
    folders = sorted(root.glob("sys/class/thermal/cooling_device*"))
    return [folder for folder in folders if _CPU_COOLING.search(read(folder / "type") or "")]


def _battery(root: Path) -> tuple[float | None, bool | None]:
    """Per cent, and whether it is on external power (Documentation/ABI/testing/sysfs-class-power)."""
    for folder in sorted(root.glob("sys/class/power_supply/*")):
        if (
            read(folder / "type") == "Battery" and read(folder / "scope") != "Device"
        ):  # a mouse's battery is of scope Device
            status = read(folder / "status")
            return number(read(folder / "capacity")), None if status is None else status in (
                "Charging",
                "Full",
                "Not charging",
            )
    return None, None


def _thermal_status() -> int | None:
    """Android's thermal status, 0 (none) to 6 (shutdown); None elsewhere, or where the service doesn't answer this user."""
    dumpsys = shutil.which("dumpsys")
    if dumpsys is None:
        return None
    try:
        done = subprocess.run(
            [dumpsys, "thermalservice"], capture_output=True, text=True, timeout=_DUMPSYS_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"Thermal Status: (\d)", done.stdout)
    return int(found.group(1)) if found else None
