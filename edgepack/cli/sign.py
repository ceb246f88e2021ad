"""`edgepack sign`: who stands for a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import FILE, json_option
from edgepack.cli.wire_input import begins_as_wire
from edgepack.core.errors import UsageError

if TYPE_CHECKING:
    from edgepack.signing.keys import PrivateKey


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    required=True,
    metavar="KEY",
    help="A private key, as 'edgepack key new' makes them. Give it again for another signature.",
)
@click.option(
    "-o", "--output", type=FILE, metavar="FILE", help="Where to write.  [default: BUNDLE itself; oms: BUNDLE.sig]"
)
@click.option("--add", is_flag=True, help="Keep the signatures that are there.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["edgepack", "oms"]),
    default="edgepack",
    show_default=True,
    help="oms: a file of its own, in the format of OpenSSF Model Signing.",
)
@click.option("--unpacked", is_flag=True, help="oms: sign the folder that 'edgepack unpack' writes, not the file.")
@json_option
def sign(
    *, bundle: Path, keys: tuple[Path, ...], output: Path | None, add: bool, style: str, unpacked: bool, as_json: bool
) -> None:
    """Sign a bundle.

    The signature covers the manifest, which has the SHA-256 of every file; it is an entry of the bundle, signatures.json, and every other byte stays as it
    was. Several signatures let receivers change from an old key to a new one.

    With --format oms the signature is a file that 'model_signing verify key' takes, over BUNDLE, over a folder, or with --unpacked over what BUNDLE unpacks
    to. That format needs an ecdsa-p256 key.

    \b
    Examples:
      edgepack sign dist/digits-1.0.0-arm64.edgepack --key release-2026.pem
      edgepack sign model.edgepack --key release-2027.pem --add -o signed.edgepack
      edgepack sign model.edgepack --key release-p256.pem --format oms -o model.sig
    """
    from edgepack.cli.passwords import password_of
    from edgepack.cli.terminal import echo_json, shown
    from edgepack.signing.key_files import read_private_key

    if style == "edgepack" and unpacked:
        raise click.UsageError("--unpacked goes with --format oms; an edgepack signature covers both, file and folder")
    if style == "oms" and (add or len(keys) != 1):
        raise click.UsageError(
            "--format oms takes one key and no --add: its file holds one signature; write one per key"
        )
    if style == "edgepack" and begins_as_wire(bundle):
        raise UsageError(f"{bundle}: is a wire form; sign the bundle, then pack it: its wire form keeps the signature")
    opened = [read_private_key(path, password=password_of(path)) for path in keys]
    if style == "oms":
        written = _sign_oms(bundle, opened[0], output, unpacked=unpacked)
    else:
        written = _sign(bundle, opened, output or bundle, add=add)
    if as_json:
        echo_json({"file": str(written), "format": style, "key_ids": [one.key_id for one in opened]})
    else:
        click.echo(f"{shown(written)}: signed by {', '.join(f'{one.algorithm} key {one.key_id}' for one in opened)}")


def _sign(path: Path, keys: Sequence[PrivateKey], output: Path, *, add: bool) -> Path:
    from edgepack.signing.bundles import sign_bundle

    return sign_bundle(path, keys, output, keep=add)


def _sign_oms(path: Path, key: PrivateKey, output: Path | None, *, unpacked: bool) -> Path:
    from edgepack.bundle import read_bundle
    from edgepack.core.files import write_atomic
    from edgepack.signing.oms import sign_oms
    from edgepack.signing.signed_files import GIT_PATHS, sha256_of, sha256_of_contents

    target = output or path.absolute().with_name(f"{path.absolute().name}.sig")
    ignored = list(GIT_PATHS)
    if path.is_dir() and target.resolve().is_relative_to(path.resolve()):
        ignored.append(target.resolve().relative_to(path.resolve()).as_posix())
    if unpacked:
        bundle = read_bundle(path)
        bundle.verify()
        digests = sha256_of_contents(bundle)
    else:
        digests = sha256_of(path, ignored=ignored)
    write_atomic(target, sign_oms(key, name=path.absolute().name, sha256=digests, ignored=ignored))
    return target
