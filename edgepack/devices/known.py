"""Which devices there are to name after --device: this machine, those of devices.toml, and those that adb sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.core.errors import EnvironmentProblem
from edgepack.devices.adb_client import AdbDevice, adb_devices
from edgepack.devices.inventory import load_inventory

ADB = "adb://"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevice:
    """What to write after --device, where that is, and who knows it. `state` is None where nobody was asked."""

    name: str
    address: str
    known_by: str
    state: str | None = None
    tags: tuple[str, ...] = ()


def known_devices(inventory: Path | None = None) -> tuple[tuple[KnownDevice, ...], str | None]:
    """Every known device, and why adb's are not among them (None: they are). Asks no device."""
    why_no_adb = None
    seen: Sequence[AdbDevice] = ()
    try:
        seen = adb_devices()
    except EnvironmentProblem as exc:
        why_no_adb = str(exc)
    states = {ADB + device.serial: device.trouble or "connected" for device in seen}
    listed = [
        KnownDevice(
            name=device.name,
            address=device.address,
            known_by="devices.toml",
            state=_state(device.address, states, why_no_adb),
            tags=device.tags,
        )
        for device in load_inventory(inventory).values()
    ]
    named = {device.address for device in listed}
    others = [
        KnownDevice(name=address, address=address, known_by="adb", state=state)
        for address, state in states.items()
        if address not in named
    ]
    here = KnownDevice(name="local", address="local", known_by="edgepack", state="this machine")
    return (here, *listed, *others), why_no_adb


def _state(address: str, states: dict[str, str], why_no_adb: str | None) -> str | None:
    if address.startswith(ADB) and why_no_adb is None:
        return states.get(address, "not connected")
    return None
