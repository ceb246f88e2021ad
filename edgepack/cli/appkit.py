"""`edgepack appkit`: code for the app that uses a bundle."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from edgepack.cli.options import FILE, FOLDER, bundle_argument, require_signed_option, trust_option


def complete_kit(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of app kits that begin so."""
    from edgepack.appkit import APPKITS

    return [CompletionItem(name) for name in APPKITS if name.startswith(incomplete)]


@click.command()
@bundle_argument
@click.option(
    "--for",
    "kit",
    required=True,
    metavar="KIT",
    shell_complete=complete_kit,
    help="android, android-ai-pack, cpp, ios, python or web.",
)
@click.option("--variant", metavar="TARGET", help="Whose model, where several would do.")
@click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="A public key that must have signed the bundle; the code demands it, too. Repeatable.",
)
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    metavar="FOLDER",
    help="New or empty folder.  [default: NAME-VERSION-KIT in the current folder]",
)
@require_signed_option
@trust_option
def appkit(
    *,
    bundle: Path,
    kit: str,
    variant: str | None,
    keys: tuple[Path, ...],
    output: Path | None,
    require_signed: bool,
    trust_file: Path | None,
) -> None:
    """Write code for the app that uses a bundle.

    KIT is python (a package), cpp (a CMake project), android (a library module; android-ai-pack: its model in a pack that Google Play
    delivers), ios (a Swift package) or web (a JavaScript module). Each has the model, typed input and output, pre- and postprocessing with
    the bytes of the bundle's own, a check of the model's SHA-256 at load, and a test of the golden samples. Its README.md says how to use
    it and what was compiled where. No code is written for a bundle that the trust file refuses (exit code 13).

    \b
    Examples:
      edgepack appkit dist/digits-1.0.0-arm64.edgepack --for python
      edgepack appkit digits-1.0.0.edgepack --for cpp --variant x86_64 -o native/digits
      edgepack appkit digits-1.0.0.edgepack --for android --key team.pub.pem
    """
    from edgepack.appkit.make import make_appkit
    from edgepack.bundle import read_bundle
    from edgepack.cli.terminal import shown
    from edgepack.signing import check_trust, load_trust
    from edgepack.signing.keys import PublicKey

    opened = read_bundle(bundle)
    for line in check_trust(opened, trust=load_trust(trust_file, require_signed=require_signed)).warnings:
        click.secho(f"! {line}", fg="yellow", err=True)
    trusted = [PublicKey.from_pem(_read(path), where=str(path)) for path in keys]
    folder = output or Path(f"{opened.manifest.name}-{opened.manifest.version}-{kit}")
    made = make_appkit(opened, kit, folder, target=variant, trusted_keys=trusted)
    click.echo(f"{shown(folder)}: {kit} code for {opened.manifest.name} {opened.manifest.version}, model {made.target}")
    click.echo("Read its README.md first.")


def _read(path: Path) -> bytes:
    from edgepack.core.errors import UsageError

    try:
        return path.read_bytes()
    except OSError as exc:
        raise UsageError(f"{path}: can't be read: {exc.strerror}") from exc
