"""Whether the device is emulated, and what its clock counts. Emulated time is never a latency."""

from __future__ import annotations

import platform
from pathlib import Path

from .files import ROOT, read

# The virtual device says so itself, on its kernel's command line (tests/arm_device).
_EMULATOR, _CLOCK = "edgepack.emulator=", "edgepack.clock="
_NAMES = {"qemu": "QEMU"}
UNSURE = "QEMU (it doesn't tell whether its CPU is emulated)"


def emulator(root: Path = ROOT) -> str | None:
    """The emulator's name, or None where nothing hints at one.

    A QEMU machine whose kernel has KVM's clock runs on the host's own CPU: that is no emulation. On Arm nothing tells the two apart, so
    it counts as emulated, and the name says that this is not sure.
    """
    said = _said(_EMULATOR, root)
    if said:
        return _NAMES.get(said, said)
    cpu = read(root / "proc/cpuinfo") or ""
    if "QEMU TCG" in cpu:
        return "QEMU"
    if platform.machine() == "aarch64" and "vendor_id" in cpu:  # the x86 host's /proc behind an Arm program
        return "QEMU user mode"
    vendor, tree = read(root / "sys/class/dmi/id/sys_vendor") or "", read(root / "proc/device-tree/compatible") or ""
    if vendor != "QEMU" and "linux,dummy-virt" not in tree and "QEMU Virtual CPU" not in cpu:
        return None
    clocks = read(root / "sys/devices/system/clocksource/clocksource0/available_clocksource") or ""
    return None if "kvm-clock" in clocks else UNSURE


def clock(root: Path = ROOT) -> str:
    """'guest_instructions' where one nanosecond of the guest's clock is one of its instructions (`-icount shift=0`), else 'ns'."""
    return "guest_instructions" if _said(_CLOCK, root) == "instructions" else "ns"


def _said(key: str, root: Path) -> str | None:
    words = (read(root / "proc/cmdline") or "").split()
    return next((word[len(key) :] for word in words if word.startswith(key)), None)
