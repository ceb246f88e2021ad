"""Energy of the measured window, from a sensor of the device: read by a thread at a stated rate, integrated between begin and end.

It is what the whole device (or the part that the sensor sees, which its name says) used meanwhile, never the process alone.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .files import ROOT, number, read

RATE_HZ = 10.0
NO_SENSOR = (
    "no power or energy sensor in /sys that this user may read (hwmon, powercap, power rails, a discharging battery)"
)
# Labels of the rail that feeds the whole board, on Jetson and on others with TI's INA monitors.
_WHOLE = re.compile(r"^(vdd_?in|vin|pom_5v_in|total|system|psys|input)\b", re.IGNORECASE)
# 'CH0(T=349894)[S10M_VDD_TPU], 5578756' in µWs (Pixel's on-device power meter; AOSP hardware/google/pixel, powerstats).
_RAIL = re.compile(r"^CH\d+\(T=\d+\)\[(?P<name>[^\]]+)\],\s*(?P<value>\d+)", re.MULTILINE)


class Sensor:
    """`read` gives joules so far ('counter') or watts now ('power'), or None when a reading fails."""

    def __init__(
        self, name: str, kind: str, reading: Callable[[], float | None], *, wraps_at_j: float | None = None
    ) -> None:
        self.name, self.kind, self.reading, self.wraps_at_j = name, kind, reading, wraps_at_j


def find_sensor(root: Path = ROOT) -> Sensor | None:
    """The best sensor that gives a number now: counters before power, the whole device before a part."""
    for found in (_rails(root), *_hwmon(root), *_powercap(root), _battery(root)):
        if found is not None and found.reading() is not None:
            return found
    return None


class Meter:
    """Reads a sensor in a thread from `begin` to `end`."""

    def __init__(self, sensor: Sensor, *, rate_hz: float = RATE_HZ) -> None:
        self._sensor, self._rate_hz = sensor, rate_hz
        self._readings: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgepack-energy", daemon=True)

    def begin(self) -> None:
        """The window begins."""
        self._read()
        self._thread.start()

    def end(self) -> dict[str, Any] | None:
        """The window ends: `records.Energy`, or None where the sensor gave less than two readings."""
        self._ended.set()
        self._thread.join(timeout=5)
        self._read()
        if len(self._readings) < 2:
            return None
        window_s = self._readings[-1][0] - self._readings[0][0]
        rate_hz = (len(self._readings) - 1) / window_s
        return {"joules": self._joules(), "window_s": window_s, "sensor": self._sensor.name, "rate_hz": rate_hz}

    def _run(self) -> None:
        while not self._ended.wait(1 / self._rate_hz):
            self._read()

    def _read(self) -> None:
        value = self._sensor.reading()
        if value is not None:
            self._readings.append((time.perf_counter(), value))

    def _joules(self) -> float:
        pairs = list(zip(self._readings, self._readings[1:]))
        if self._sensor.kind == "power":  # the trapezoidal rule
            return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs)
        wraps = self._sensor.wraps_at_j or 0.0
        return sum(b[1] - a[1] if b[1] >= a[1] else b[1] - a[1] + wraps for a, b in pairs)


def _rails(root: Path) -> Sensor | None:
    files = sorted(root.glob("sys/bus/iio/devices/iio:device*/energy_value"))

    def reading() -> float | None:
        values = [int(rail["value"]) for file in files for rail in _RAIL.finditer(read(file) or "")]
        return sum(values) / 1e6 if values else None

    return Sensor("power rails, all together", "counter", reading) if files else None


def _hwmon(root: Path) -> list[Sensor]:
    """Documentation/hwmon/sysfs-interface.rst: energy in µJ, power in µW, voltage in mV, current in mA."""
    found = []
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
        chip = read(folder / "name") or folder.name
        for file in sorted(folder.glob("energy*_input")):
            found.append((0, Sensor(_named(chip, file, "energy"), "counter", _scaled(file, 1e-6))))
        for file in sorted([*folder.glob("power*_input"), *folder.glob("power*_average")]):
            name = _named(chip, file, "power")
            found.append(
                (1 if _WHOLE.search(name.partition(" ")[2]) else 2, Sensor(name, "power", _scaled(file, 1e-6)))
            )
        for current in sorted(folder.glob("curr*_input")):
            voltage = folder / current.name.replace("curr", "in")
            if voltage.is_file():
                name = _named(chip, voltage, "in")
                rank = 1 if _WHOLE.search(name.partition(" ")[2]) else 3
                found.append((rank, Sensor(name, "power", _product(current, voltage, 1e-6))))
    return [sensor for _, sensor in sorted(found, key=lambda pair: pair[0])]


def _powercap(root: Path) -> list[Sensor]:
    """Intel's and AMD's counters of the processor package, in µJ (Documentation/power/powercap/powercap.rst); root's alone on most systems."""
    found = []
    for file in sorted(root.glob("sys/class/powercap/*/energy_uj")):
        if file.parent.name.count(":") == 1:  # a package, no part of one
            most = number(read(file.parent / "max_energy_range_uj"))
            name = f"{file.parent.name} {read(file.parent / 'name') or ''}".strip()
            wraps_at_j = None if most is None else most / 1e6
            found.append(Sensor(name, "counter", _scaled(file, 1e-6), wraps_at_j=wraps_at_j))
    return found


def _battery(root: Path) -> Sensor | None:
    """A battery's own power, where it feeds the device: power_now in µW, else current in µA times voltage in µV."""
    for folder in sorted(root.glob("sys/class/power_supply/*")):
        if read(folder / "type") != "Battery" or read(folder / "status") != "Discharging":
            continue
        if (folder / "power_now").is_file():
            return Sensor(f"battery {folder.name}", "power", _scaled(folder / "power_now", 1e-6))
        if (folder / "current_now").is_file():
            both = _product(folder / "current_now", folder / "voltage_now", 1e-12)
            return Sensor(f"battery {folder.name}", "power", both)
    return None


def _named(chip: str, file: Path, kind: str) -> str:
    label = read(file.with_name(re.sub(r"_(input|average)$", "_label", file.name)))
    return f"{chip} {label or file.name.partition('_')[0] or kind}"


def _scaled(file: Path, unit: float) -> Callable[[], float | None]:
    def reading() -> float | None:
        value = number(read(file))
        return (
            None if value is None else abs(value) * unit
        )  # a discharging battery's current is negative on some devices

    return reading


def _product(one: Path, other: Path, unit: float) -> Callable[[], float | None]:
    first, second = _scaled(one, 1.0), _scaled(other, 1.0)

    def reading() -> float | None:
        values = first(), second()
        return None if values[0] is None or values[1] is None else values[0] * values[1] * unit

    return reading
