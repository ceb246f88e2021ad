"""A team's devices by name: `devices.toml`, which never belongs into a bundle or into `targets/`."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from edgepack.core.errors import RecipeError
from edgepack.core.files import config_folder
from edgepack.core.section import Section, validate

FILE_NAME = "devices.toml"
VARIABLE = "EDGEPACK_DEVICES"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # what a shell takes without quotes, and what can't be read as an address


class Device(Section):
    """One device: where it is, and what edgepack must know to use it. docs/devices.md has a template."""

    name: str = Field(pattern=_NAME)
    address: str = Field(description="'local', 'ssh://[user@]host[:port]', 'adb://SERIAL' or 'labgrid://PLACE'.")
    python: str | None = Field(default=None, min_length=1, description="The device's Python; default: 'python3' there.")
    python_path: tuple[str, ...] = Field(
        default=(), description="Folders on the device with packages, before Python's own (PYTHONPATH)."
    )
    tags: tuple[str, ...] = Field(default=(), description="Words of your own to choose devices by.")
    cores: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=1, description="CPU cores that a benchmark is bound to."
    )
    cool_below_c: float | None = Field(
        default=None, gt=0, description="Wait until the device is cooler than this (°C) before each run."
    )
    native_benchmark: Path | None = Field(
        default=None,
        description="LiteRT's benchmark_model for the device, a file here: used where the device has no Python.",
    )

    @model_validator(mode="after")
    def _address_is_one(self) -> Self:
        if self.address != "local" and not self.address.partition("://")[2]:
            raise ValueError(
                f"address: '{self.address}' is no address; write 'local', 'ssh://[user@]host[:port]', 'adb://SERIAL' or 'labgrid://PLACE'"
            )
        return self


class _Inventory(Section):
    devices: dict[str, Device] = Field(default_factory=dict)


def load_inventory(path: Path | None = None, *, beside: Path | None = None) -> dict[str, Device]:
    """Every known device by name, from the file that `inventory_file` finds; empty where there is none.

    Raises RecipeError for a file that is missing or wrong. Relative paths in it start in its folder.
    """
    file = inventory_file(path, beside=beside)
    return {} if file is None else _read(file)


def inventory_file(path: Path | None = None, *, beside: Path | None = None) -> Path | None:
    """The one file that counts: `path`, else $EDGEPACK_DEVICES, else devices.toml beside the recipe, in the current folder, or in the user's config folder."""
    if path is not None:
        return path
    if named := os.environ.get(VARIABLE):
        return Path(named)
    folders = ([] if beside is None else [beside]) + [Path.cwd(), config_folder()]
    return next((folder / FILE_NAME for folder in folders if (folder / FILE_NAME).is_file()), None)


def _read(file: Path) -> dict[str, Device]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise RecipeError(
            f"{file}: this list of devices can't be read: {reason}; correct the path or ${VARIABLE}"
        ) from exc
    except tomllib.TOMLDecodeError as exc:
        raise RecipeError(f"{file}: not valid TOML: {exc}") from exc
    tables = content.get("devices")
    if isinstance(tables, dict):
        content["devices"] = {name: _named(name, table, file) for name, table in tables.items()}
    devices = validate(_Inventory, content, where=str(file)).devices
    return {name: _with_absolute_paths(device, file.absolute().parent) for name, device in devices.items()}


def _named(name: str, table: object, file: Path) -> object:
    """A device's table with the name that its heading gives it."""
    if not isinstance(table, dict):
        return table
    if "name" in table:
        raise RecipeError(
            f"{file}: devices.{name}.name: a device is named by its heading, [devices.NAME]; remove this key"
        )
    return {"name": name, **table}


def _with_absolute_paths(device: Device, folder: Path) -> Device:
    if device.native_benchmark is None:
        return device
    return device.model_copy(update={"native_benchmark": folder / device.native_benchmark.expanduser()})
