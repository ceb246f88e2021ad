"""`edgepack key`: the keys that sign bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import FILE, json_option

if TYPE_CHECKING:
    from edgepack.signing.keys import PublicKey


@click.group()
def key() -> None:
    """Make a key that signs bundles, or show one.

    \b
    Examples:
      edgepack key new release-2026
      edgepack key show release-2026.pub.pem
    """


@key.command()
@click.argument("name", type=FILE)
@click.option(
    "--algorithm",
    type=click.Choice(["ed25519", "ecdsa-p256"]),
    default="ed25519",
    show_default=True,
    help="ecdsa-p256 also signs in the format of OpenSSF Model Signing.",
)
@click.option(
    "--password", "encrypted", is_flag=True, help="Encrypt it; the password is asked, or $EDGEPACK_KEY_PASSWORD."
)
@json_option
def new(*, name: Path, algorithm: Any, encrypted: bool, as_json: bool) -> None:
    """Make a key: NAME.pem to sign with, NAME.pub.pem for those who verify.

    NAME.pem can be read by you alone; keep it out of repositories and bundles. Give NAME.pub.pem to the people who receive your bundles, by another way
    than the bundles. A file that exists is never overwritten.

    \b
    Examples:
      edgepack key new release-2026
      edgepack key new ~/keys/release-2026 --algorithm ecdsa-p256 --password
    """
    from edgepack.cli.passwords import new_password
    from edgepack.cli.terminal import echo_json, shown
    from edgepack.signing.key_files import key_paths, require_new, write_key
    from edgepack.signing.keys import PrivateKey

    require_new(key_paths(name))
    made = PrivateKey.generate(algorithm)
    private, public = write_key(name, made, password=new_password(name.name) if encrypted else None)
    if as_json:
        echo_json({**_content(made.public), "private": str(private), "public": str(public)})
        return
    click.echo(
        f"{shown(private)}: {made.algorithm} key {made.key_id}{', encrypted' if encrypted else ''}; keep it secret"
    )
    click.echo(
        f"{shown(public)}: give this to those who verify: edgepack trust add {public.name.split('.')[0]} {public.name}"
    )


@key.command()
@click.argument("file", type=FILE)
@json_option
def show(*, file: Path, as_json: bool) -> None:
    """Print the id, the algorithm and the public part of a key.

    FILE is a private or a public key in PEM; of a private one only the public part is shown.

    \b
    Examples:
      edgepack key show release-2026.pub.pem
      edgepack key show release-2026.pem --json | jq -r .key_id
    """
    from edgepack.cli.passwords import password_of
    from edgepack.cli.terminal import echo_json
    from edgepack.signing.key_files import is_private, read_private_key, read_public_key

    private = is_private(file)
    public = read_private_key(file, password=password_of(file)).public if private else read_public_key(file)
    if as_json:
        echo_json(_content(public))
        return
    click.echo(f"{public.algorithm} key {public.key_id}")
    click.echo(public.pem().decode(), nl=False)


def _content(public: PublicKey) -> dict[str, str]:
    return {"key_id": public.key_id, "algorithm": public.algorithm, "public_key": public.pem().decode()}
