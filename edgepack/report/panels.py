"""Which rows may share an axis: those of one device and one kind of clock, never an emulated one beside a real board."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgepack.records import DeviceName
from edgepack.report.groups import Kind
from edgepack.report.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A device with one kind of clock: what one panel of a figure shows."""

    device: DeviceName
    kind: Kind

    @property
    def title(self) -> str:
        """The device's name, and what its numbers are where they are no real time."""
        return f"{self.device.name} ({NOTE[self.kind]})" if NOTE[self.kind] else self.device.name


NOTE: dict[Kind, str] = {
    "device": "",
    "emulated": "emulated: no real device's time",
    "instructions": "instructions: a proxy, no latency",
}
UNIT: dict[Kind, str] = {"device": "ms", "emulated": "ms", "instructions": "instructions"}
# What the middle of a row's samples is called.
MIDDLE: dict[Kind, str] = {"device": "p50", "emulated": "emulated p50", "instructions": "guest instructions"}
# From a sample's own unit to the panel's.
DIVISOR: dict[Kind, float] = {"device": 1e6, "emulated": 1e6, "instructions": 1.0}


def place_of(row: Row) -> Place:
    """Where a row is drawn."""
    return Place(device=row.device, kind=row.kind)


def by_place(rows: Iterable[Row]) -> dict[Place, list[Row]]:
    """Rows by panel, in their order."""
    found: dict[Place, list[Row]] = {}
    for row in rows:
        found.setdefault(place_of(row), []).append(row)
    return found
