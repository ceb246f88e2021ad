"""`edgepack targets`: the kinds of device that can be built for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgepack.cli.options import FOLDER, complete_target, json_option


@click.command()
@click.argument("name", required=False, shell_complete=complete_target)
@click.option(
    "--project",
    type=FOLDER,
    default=Path(),
    show_default="the current folder",
    help="Folder whose targets/ counts, too.",
)
@json_option
def targets(*, name: str | None, project: Path, as_json: bool) -> None:
    """List the kinds of device, or show one.

    A target is a TOML file: those shipped with edgepack, and those in the folder targets/ of a project, which win.

    \b
    Examples:
      edgepack targets
      edgepack targets arm64
    """
    from edgepack.cli.terminal import echo_json
    from edgepack.targets import load_target, target_names

    profiles = {one: load_target(one, project) for one in ([name] if name else target_names(project))}
    if as_json:
        echo_json({one: profile.model_dump(mode="json") for one, profile in profiles.items()})
    elif name:
        _show_one(profiles[name].model_dump(mode="json"))
    else:
        _show_all({one: profile.model_dump(mode="json") for one, profile in profiles.items()}, project)


def _show_all(profiles: dict[str, dict[str, Any]], project: Path) -> None:
    from rich.markup import escape

    from edgepack.cli.tables import plain_table
    from edgepack.cli.terminal import draw
    from edgepack.targets import SHIPPED, target_names

    files = target_names(project)
    columns = {"target": "left", "description": "left", "exporter": "left", "runtime": "left", "from": "left"}
    rows = [
        (
            f"[bold]{escape(name)}[/]",
            *(escape(profile[key]) for key in ("description", "exporter", "runtime")),
            "edgepack" if files[name].resolve().parent == SHIPPED.resolve() else "this project",
        )
        for name, profile in profiles.items()
    ]
    draw(plain_table("", columns, rows))


def _show_one(profile: dict[str, Any]) -> None:
    from rich.markup import escape

    from edgepack.cli.tables import facts
    from edgepack.cli.terminal import draw

    pairs = []
    for key, value in profile.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        pairs += [(f"{key}.{sub}" if sub else key, escape(_text(item))) for sub, item in inner]
    draw(facts(pairs))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
