"""What stays the same on a device: its name for itself, CPU, memory, versions, clock."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from .files import ROOT, read, read_all, table, with_reasons
from .virtual import clock, emulator

_GETPROP_TIMEOUT_S = 5.0
_REASONS = {
    "cpu_model": "not in /proc/cpuinfo",
    "os_name": "no /etc/os-release",
    "libc": "neither glibc, musl nor bionic",
    "soc": "no device tree and no /sys/devices/soc0 (usual for a PC or a virtual machine)",
    "memory_bytes": "not in /proc/meminfo",
    "boot_id": "no /proc/sys/kernel/random/boot_id",
}


def device_facts(root: Path = ROOT) -> dict[str, Any]:
    """The facts as `records.Environment` has them, without the runtime. What this device doesn't tell is null; `missing` says why."""
    memory = table(read(root / "proc/meminfo")).get("MemTotal")
    facts = {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu_model": _cpu_model(root),
        "cores": os.cpu_count() or 1,
        "usable_cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "numpy": version_of("numpy"),
        "timer_resolution_ns": time.get_clock_info("perf_counter").resolution * 1e9,
        "os_name": _os_name(root),
        "libc": _libc(root),
        "soc": _soc(root),
        "memory_bytes": None if memory is None else int(memory.split()[0]) * 1024,
        "boot_id": read(root / "proc/sys/kernel/random/boot_id"),
    }
    return dict(with_reasons(facts, _REASONS), emulated=emulator(root), clock=clock(root))


def version_of(package: str) -> str:
    """The version of an installed package; 'unknown' where there is none."""
    try:
        return metadata.version(package.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return "unknown"


def _cpu_model(root: Path) -> str | None:
    """x86 kernels name the CPU; Arm kernels give numbers of its designer and part, of each kind of core."""
    lines = [line.partition(":") for line in (read(root / "proc/cpuinfo") or "").splitlines()]
    values = [(key.strip(), value.strip()) for key, _, value in lines]
    parts = sorted({value for key, value in values if key == "CPU part"})
    first = dict(reversed(values))
    if parts:
        return f"Arm implementer {first.get('CPU implementer')} part {' and '.join(parts)}"
    return first.get("model name")


def _os_name(root: Path) -> str | None:
    named = table(read(root / "etc/os-release"), "=").get("PRETTY_NAME", "").strip('"')
    if named:
        return named
    release = android_property("ro.build.version.release")
    return release and f"Android {release}"


def _libc(root: Path) -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # no glibc
        return next(
            (
                name
                for name, file in (("musl", "lib/ld-musl-*"), ("bionic", "system/bin/linker*"))
                if list(root.glob(file))
            ),
            None,
        )


def _soc(root: Path) -> str | None:
    """The board and its chip, as the device tree names them, else the SoC bus, else Android."""
    board, compatible = read(root / "proc/device-tree/model"), read(root / "proc/device-tree/compatible")
    chip = compatible.split("\0")[-1] if compatible else None
    if board or chip:
        return f"{board} ({chip})" if board and chip and chip not in board else board or chip
    bus = read_all("sys/devices/soc0/family", root) + read_all("sys/devices/soc0/soc_id", root)
    return " ".join(bus) or android_property("ro.soc.model")


def android_property(name: str) -> str | None:
    """One of Android's system properties; None elsewhere."""
    getprop = shutil.which("getprop")
    if getprop is None:
        return None
    try:
        done = subprocess.run([getprop, name], capture_output=True, text=True, timeout=_GETPROP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
