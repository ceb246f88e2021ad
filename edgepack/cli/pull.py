"""`edgepack pull`: a bundle from a registry."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli.options import FILE


@click.command()
@click.argument("source", metavar="oci://HOST/NAME[:TAG][@DIGEST]|FOLDER")
@click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="FILE",
    help="The bundle's file, which must be new.  [default: as 'edgepack build' names it, in the current folder]",
)
@click.option(
    "--plain-http", is_flag=True, help="The registry has no HTTPS. (One on this machine is never asked for it.)"
)
def pull(*, source: str, output: Path | None, plain_http: bool) -> None:
    """Get a bundle that 'edgepack export --as oci' laid out, from a registry or a folder.

    Every file is checked against the artifact's manifest, and with @DIGEST the manifest against that. The bundle is byte for byte
    the one that was exported, with its signatures; it appears verified or not at all.

    \b
    Examples:
      edgepack pull oci://registry.example/team/digits:1.0.0
      edgepack pull digits-1.0.0-oci -o digits.edgepack
    """
    from edgepack.cli.terminal import shown
    from edgepack.layouts.make import pull_bundle

    made = pull_bundle(source, output, plain_http=plain_http)
    click.echo(f"{shown(made.path)}: {made.manifest.title}")
