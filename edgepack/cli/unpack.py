"""`edgepack unpack`: a bundle's files in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli.options import FOLDER, bundle_argument


@click.command()
@bundle_argument
@click.argument("folder", type=FOLDER, required=False)
def unpack(*, bundle: Path, folder: Path | None) -> None:
    """Write a bundle's files into a folder.

    FOLDER must be new or empty; by default it is called like BUNDLE, without '.edgepack', in the current folder. Each file is checked
    against the manifest, and the folder appears whole or not at all.

    \b
    Examples:
      edgepack unpack dist/digits-1.0.0-arm64.edgepack
      edgepack unpack model.edgepack app/assets/model
    """
    from edgepack.bundle import read_bundle
    from edgepack.cli.terminal import shown

    opened = read_bundle(bundle)
    default = bundle.stem if bundle.suffix == ".edgepack" else f"{bundle.name}.unpacked"
    click.echo(shown(opened.extract(folder or Path(default))))
