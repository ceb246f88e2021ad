"""Devices: each transport in its own file. Every name that `--device` accepts is in this table."""

from __future__ import annotations

from collections.abc import Callable

from edgepack.core.registry import Registry
from edgepack.devices.protocol import Transport

# Each is called with what follows '://' in an address, and `device=`, its entry in devices.toml.
TRANSPORTS: Registry[Callable[..., Transport]] = Registry(
    "transport",
    {
        "adb": "edgepack.devices.adb:AdbTransport",
        "labgrid": "edgepack.devices.labgrid:LabgridTransport",
        "local": "edgepack.devices.local:LocalTransport",
        "ssh": "edgepack.devices.ssh.transport:SshTransport",
    },
)
