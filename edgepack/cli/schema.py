"""`edgepack schema`: JSON Schemas, from which editors complete and check."""

from __future__ import annotations

import click

KINDS = ("recipe", "manifest", "target")


@click.command()
@click.argument("kind", type=click.Choice(KINDS), default="recipe")
def schema(*, kind: str) -> None:
    """Print a JSON Schema: recipe, manifest or target.

    Editors with a TOML language server (Taplo; in VS Code "Even Better TOML") complete a recipe whose first line is
    '#:schema edgepack.schema.json'.

    \b
    Examples:
      edgepack schema > edgepack.schema.json
      edgepack schema manifest
    """
    from edgepack.cli.schemas import SCHEMAS
    from edgepack.cli.terminal import echo_json

    echo_json(SCHEMAS[kind]())
