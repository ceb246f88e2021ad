"""What a team's list of devices says about measuring on one of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgepack.devices.inventory import load_inventory
from edgepack.suites import BenchProtocol


def protocol_on(device: str, protocol: BenchProtocol, *, inventory: Path | None = None) -> BenchProtocol:
    """The protocol with the cores and the start temperature of a device of devices.toml, where it says none itself."""
    known = None if "://" in device else load_inventory(inventory).get(device)
    if known is None:
        return protocol
    return replace(
        protocol,
        cores=known.cores if protocol.cores is None else protocol.cores,
        cool_below_c=known.cool_below_c if protocol.cool_below_c is None else protocol.cool_below_c,
    )
