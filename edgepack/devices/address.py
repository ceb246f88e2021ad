"""From what a user writes after --device to the device itself."""

from __future__ import annotations

from pathlib import Path

from edgepack.core.errors import UsageError, did_you_mean
from edgepack.devices import TRANSPORTS
from edgepack.devices.inventory import VARIABLE, inventory_file, load_inventory
from edgepack.devices.protocol import Transport


def open_device(address: str, *, inventory: Path | None = None) -> Transport:
    """'local', 'ssh://[user@]host[:port]', 'adb://SERIAL', 'labgrid://PLACE', or a name from devices.toml; close it, best by `with`.

    A name counts before a transport's name, so a team may have its own 'local'. Raises UsageError for what is no address and no known name,
    EnvironmentProblem with the reason when the device can't be reached.
    """
    if "://" in address:
        return _open(address)
    devices = load_inventory(inventory)
    if address in devices:
        device = devices[address]
        return _open(device.address, device=device)
    if address == "local":
        return _open(address)
    file = inventory_file(inventory)
    where = (
        f"{file} has no such name{did_you_mean(address, devices)}"
        if file
        else f"there is no devices.toml (nor ${VARIABLE})"
    )
    raise UsageError(
        f"--device {address}: {where}; name a device of yours, or write 'local', 'ssh://[user@]host[:port]', "
        "'adb://SERIAL' or 'labgrid://PLACE'"
    )


def _open(address: str, **options: object) -> Transport:
    scheme, _, place = address.partition("://")
    if scheme not in TRANSPORTS:
        raise UsageError(f"--device {address}: no such way to a device{did_you_mean(scheme, TRANSPORTS.names())}")
    return TRANSPORTS.load(scheme)(place, **options)
