"""`edgepack pull`: a bundle from a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import FILE, require_signed_option, trust_option

if TYPE_CHECKING:
    from edgepack.bundle import Bundle


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
@require_signed_option
@trust_option
def pull(*, source: str, output: Path | None, plain_http: bool, require_signed: bool, trust_file: Path | None) -> None:
    """Get a bundle from a registry.

    It is what 'edgepack export --as oci' laid out, there or in a folder.

    Every file is checked against the artifact's manifest, and with @DIGEST the manifest against that. The bundle is byte for byte
    the one that was exported, with its signatures; it appears verified or not at all, and not if the trust file refuses it (exit code 13).

    \b
    Examples:
      edgepack pull oci://registry.example/team/digits:1.0.0
      edgepack pull digits-1.0.0-oci -o digits.edgepack
    """
    from edgepack.cli.terminal import shown
    from edgepack.layouts.make import pull_bundle
    from edgepack.signing import check_trust, load_trust

    trust = load_trust(trust_file, require_signed=require_signed)

    def accept(bundle: Bundle) -> None:
        for line in check_trust(bundle, trust=trust).warnings:
            click.secho(f"! {line}", fg="yellow", err=True)

    made = pull_bundle(source, output, plain_http=plain_http, accept=accept)
    click.echo(f"{shown(made.path)}: {made.manifest.title}")
