"""Options and arguments that several commands share, and what a shell completes for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from edgepack.cli.wire_input import restored

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


def complete_target(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of targets that begin so: the shipped ones and those of the project here."""
    from edgepack.targets import target_names

    return [name for name in target_names(Path.cwd()) if name.startswith(incomplete)]


def complete_suite(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of suites that begin so."""
    from edgepack.suites import suite_names

    return [name for name in suite_names() if name.startswith(incomplete)]


def complete_recipe(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """TOML files and folders."""
    place = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    found = sorted(place.glob("*")) if place.is_dir() else []
    names = [f"{path}/" if path.is_dir() else str(path) for path in found if path.is_dir() or path.suffix == ".toml"]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_device(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of devices.toml that begin so, and the beginnings of addresses; adb is asked only for its own, for it starts a server."""
    from edgepack.core.errors import EdgepackError

    names = ["local", "ssh://", "adb://", "labgrid://"]
    with contextlib.suppress(EdgepackError):  # a list with a mistake in it: the command itself says so
        from edgepack.devices.inventory import load_inventory

        names += load_inventory()
        if incomplete.startswith("adb:"):
            from edgepack.devices.adb_client import adb_devices

            names += [f"adb://{device.serial}" for device in adb_devices()]
    return [name for name in names if name.startswith(incomplete)]


def device_option(function: F) -> F:
    """--device: where to measure."""
    return click.option(
        "--device",
        default="local",
        show_default=True,
        metavar="DEVICE",
        shell_complete=complete_device,
        help="local, ssh://[user@]host[:port], adb://SERIAL, labgrid://PLACE, or a name from devices.toml.",
    )(function)


def inventory_option(function: F) -> F:
    """--devices: which list of devices counts."""
    return click.option(
        "--devices",
        "inventory",
        type=FILE,
        metavar="FILE",
        help="The list of devices.  [default: $EDGEPACK_DEVICES, or devices.toml here or in your config folder]",
    )(function)


def bundle_argument(function: F) -> F:
    """BUNDLE: the file that a build wrote, or its wire form."""
    return click.argument("bundle", type=FILE, callback=restored)(function)


def variant_option(function: F) -> F:
    """--variant: which model of a bundle with several."""
    return click.option(
        "--variant", metavar="TARGET", help="Which model of a bundle with several.  [default: the only one]"
    )(function)


def recipe_option(function: F) -> F:
    """--recipe: a file, or a folder that holds one."""
    return click.option(
        "-r",
        "--recipe",
        type=click.Path(path_type=Path),
        default=Path(),
        show_default="the current folder",
        metavar="FILE|FOLDER",
        shell_complete=complete_recipe,
        help="The recipe, or a folder with edgepack.toml, or pyproject.toml with [tool.edgepack].",
    )(function)


def work_dir_option(default: str) -> Callable[[F], F]:
    """--work-dir: where finished stages are."""
    return click.option(
        "--work-dir", type=FOLDER, show_default=default, default=None, help="Folder of finished stages."
    )


def trust_option(function: F) -> F:
    """--trust: which file says whom this machine trusts."""
    return click.option(
        "--trust",
        "trust_file",
        type=FILE,
        metavar="FILE",
        help="The trust file.  [default: $EDGEPACK_TRUST, or trust.toml in your config folder]",
    )(function)


def require_signed_option(function: F) -> F:
    """--require-signed: the policy of the trust file made strict for one call."""
    return click.option(
        "--require-signed",
        is_flag=True,
        help="Refuse a bundle that no trusted key signed. Same as EDGEPACK_REQUIRE_SIGNED=1.",
    )(function)


def json_option(function: F) -> F:
    """--json: one JSON value on standard output, and nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")(function)
