"""`edgepack unpack`: a bundle's files in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli.options import FOLDER, bundle_argument, require_signed_option, trust_option, variant_option


@click.command()
@bundle_argument
@click.argument("folder", type=FOLDER, required=False)
@variant_option
@require_signed_option
@trust_option
def unpack(
    *, bundle: Path, folder: Path | None, variant: str | None, require_signed: bool, trust_file: Path | None
) -> None:
    """Write a bundle's files into a folder.

    FOLDER must be new or empty; by default it is called like BUNDLE, without '.edgepack', in the current folder. Each file is checked
    against the manifest, and the folder appears whole or not at all. With --variant the files of other targets are left out. A bundle that the trust file refuses is not unpacked (exit code 13).

    \b
    Examples:
      edgepack unpack dist/digits-1.0.0-arm64.edgepack
      edgepack unpack model.edgepack app/assets/model --require-signed
    """
    from edgepack.bundle import read_bundle
    from edgepack.cli.terminal import shown
    from edgepack.signing import check_trust, load_trust

    opened = read_bundle(bundle)
    for line in check_trust(opened, trust=load_trust(trust_file, require_signed=require_signed)).warnings:
        click.secho(f"! {line}", fg="yellow", err=True)
    default = bundle.stem if bundle.suffix == ".edgepack" else f"{bundle.name}.unpacked"
    click.echo(shown(opened.extract(folder or Path(default), target=variant)))
