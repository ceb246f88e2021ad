"""`edgepack export`: a bundle's files as other tools expect them."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from edgepack.cli.options import FOLDER, bundle_argument, require_signed_option, trust_option


def complete_layout(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of layouts that begin so."""
    from edgepack.layouts import LAYOUTS

    return [CompletionItem(name) for name in LAYOUTS if name.startswith(incomplete)]


@click.command()
@bundle_argument
@click.option(
    "--as", "layout", required=True, metavar="LAYOUT", shell_complete=complete_layout, help="folder, oci or ovms."
)
@click.option("--variant", metavar="TARGET", help="Only this target's model, where the bundle has several.")
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    metavar="FOLDER",
    help="New or empty folder.  [default: NAME-VERSION-LAYOUT in the current folder; with --push none is kept]",
)
@click.option("--push", metavar="oci://HOST/NAME:TAG", help="Copy the artifact to a registry, too (--as oci).")
@click.option(
    "--plain-http", is_flag=True, help="The registry has no HTTPS. (One on this machine is never asked for it.)"
)
@require_signed_option
@trust_option
def export(
    *,
    bundle: Path,
    layout: str,
    variant: str | None,
    output: Path | None,
    push: str | None,
    plain_http: bool,
    require_signed: bool,
    trust_file: Path | None,
) -> None:
    """Lay a bundle's files out as another tool expects them.

    LAYOUT is folder (the files as they are, with SHA256SUMS), ovms (a repository of OpenVINO Model Server) or oci (an OCI
    image layout with ModelPack's media types, for any registry). 'edgepack pull' makes the artifact a bundle again. A bundle that the
    trust file refuses is not laid out (exit code 13).

    \b
    Examples:
      edgepack export dist/digits-1.0.0-intel.edgepack --as ovms -o models
      edgepack export digits-1.0.0.edgepack --as folder --variant arm64
      edgepack export digits-1.0.0.edgepack --as oci --push oci://registry.example/team/digits:1.0.0
    """
    import tempfile

    from edgepack.bundle import read_bundle
    from edgepack.cli.terminal import shown
    from edgepack.core.errors import UsageError
    from edgepack.layouts.make import export_bundle
    from edgepack.layouts.reference import parse_reference
    from edgepack.layouts.registry import push as push_to
    from edgepack.signing import check_trust, load_trust

    if push is not None and layout != "oci":
        raise UsageError("--push: registries take artifacts only; give --as oci, too")
    reference = parse_reference(push) if push is not None else None
    opened = read_bundle(bundle)
    for line in check_trust(opened, trust=load_trust(trust_file, require_signed=require_signed)).warnings:
        click.secho(f"! {line}", fg="yellow", err=True)
    name = f"{opened.manifest.name}-{opened.manifest.version}-{layout}"
    with tempfile.TemporaryDirectory(prefix="edgepack-export-") as scratch:
        folder = output or (Path(scratch) / name if reference else Path(name))
        made = export_bundle(opened, layout, folder, target=variant)
        if output is not None or reference is None:
            click.echo(shown(made))
        if reference is not None:
            digest = push_to(made, reference, plain_http=plain_http)
            click.echo(f"{str(reference).partition('@')[0]}@{digest}")
