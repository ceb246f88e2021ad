"""`edgepack join`: one bundle for several targets."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli.options import FILE


@click.command()
@click.argument("bundles", type=FILE, nargs=-1, required=True, metavar="BUNDLE ...")
@click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="FILE",
    show_default="<name>-<version>.edgepack beside the first",
    help="The bundle to write.",
)
def join(*, bundles: tuple[Path, ...], output: Path | None) -> None:
    """Make one bundle of several for one model.

    Each BUNDLE holds the model for another target; the new one holds them all, and what they share once. Signatures don't come along: sign
    the joined bundle. 'edgepack build --together' does it right after a build.

    \b
    Examples:
      edgepack join dist/digits-1.0.0-arm64.edgepack dist/digits-1.0.0-intel.edgepack
      edgepack join dist/digits-1.0.0-*.edgepack -o digits.edgepack
    """
    from edgepack.bundle import read_bundle
    from edgepack.bundle.join import join as join_bundles
    from edgepack.cli.terminal import shown

    opened = [read_bundle(path) for path in bundles]
    about = opened[0].manifest
    path = output or bundles[0].parent / f"{about.name}-{about.version}.edgepack"
    if any(one.signatures_bytes is not None for one in opened):
        click.secho("The signatures of the parts don't cover the whole, so it is not signed.", fg="yellow", err=True)
    click.echo(shown(join_bundles(opened, path)))
