"""`edgepack trust`: whose bundles this machine takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import FILE, json_option, trust_option

if TYPE_CHECKING:
    from edgepack.signing.trust_file import TrustedKey, TrustFile

_POLICY = click.Choice(["refuse", "warn", "allow"])


@click.group()
def trust() -> None:
    """List, add, remove and revoke the keys that this machine trusts.

    \b
    Examples:
      edgepack trust add vendor vendor.pub.pem
      edgepack trust policy --unsigned refuse
      edgepack trust list
    """


@trust.command("list")
@trust_option
@json_option
def list_(*, trust_file: Path | None, as_json: bool) -> None:
    """List the trusted keys and the policy.

    \b
    Example:
      edgepack trust list --json
    """
    from edgepack.cli.tables import plain_table
    from edgepack.cli.terminal import draw, echo_json, shown
    from edgepack.signing.trust import load_trust
    from edgepack.signing.trust_file import load_trust_file, trust_path

    file, effective = load_trust_file(trust_file), load_trust(trust_file)
    policy = {"unsigned": effective.unsigned, "untrusted": effective.untrusted}
    if as_json:
        keys = {name: {**_content(key), "standing": _standing(key)} for name, key in file.keys.items()}
        echo_json({"file": str(trust_path(trust_file)), "policy": policy, "keys": keys})
        return
    if file.keys:
        columns = {"name": "left", "key": "left", "algorithm": "left", "from": "left", "until": "left"}
        rows = [_row(name, key) for name, key in file.keys.items()]
        draw(plain_table("", {**columns, "standing": "left", "note": "left"}, rows))
    click.echo(f"{shown(trust_path(trust_file))}: {len(file.keys)} {'key' if len(file.keys) == 1 else 'keys'}")
    click.echo(f"unsigned bundles: {policy['unsigned']}; signed by none of these keys: {policy['untrusted']}")


@trust.command()
@click.argument("name")
@click.argument("public_key", type=FILE, metavar="KEY")
@click.option("--not-before", metavar="DATE", help="Its signatures count from then on, e.g. 2026-01-31.")
@click.option("--not-after", metavar="DATE", help="They no longer count from then on.")
@click.option("--note", default="", metavar="TEXT", help="A remark of yours.")
@trust_option
def add(
    *, name: str, public_key: Path, not_before: str | None, not_after: str | None, note: str, trust_file: Path | None
) -> None:
    """Trust the bundles that a key signs. KEY is a public key in PEM.

    \b
    Examples:
      edgepack trust add vendor-2026 vendor-2026.pub.pem --not-after 2027-06-30
      edgepack trust add vendor-2027 vendor-2027.pub.pem --not-before 2027-01-01
    """
    from edgepack.core.errors import UsageError
    from edgepack.signing.key_files import read_public_key

    key = read_public_key(public_key)

    def added(file: TrustFile) -> TrustFile:
        if name in file.keys:
            raise UsageError(
                f"'{name}' is there already; choose another name, or remove it: edgepack trust remove {name}"
            )
        fields = {"not_before": not_before, "not_after": not_after, "note": note}
        return file.model_copy(update={"keys": {**file.keys, name: _trusted(key, fields)}})

    _change(added, trust_file, f"{name}: {key.algorithm} key {key.key_id} is trusted")


@trust.command()
@click.argument("name")
@trust_option
def remove(*, name: str, trust_file: Path | None) -> None:
    """Forget a key, by its name or its id. Bundles that it signed count as signed by an unknown one.

    \b
    Example:
      edgepack trust remove vendor-2025
    """
    from edgepack.signing.trust_file import known_key

    def removed(file: TrustFile) -> TrustFile:
        known = known_key(file, name)
        return file.model_copy(update={"keys": {each: key for each, key in file.keys.items() if each != known}})

    _change(removed, trust_file, f"{name}: no longer trusted")


@trust.command()
@click.argument("name")
@click.option("--note", metavar="TEXT", help="Why.")
@trust_option
def revoke(*, name: str, note: str | None, trust_file: Path | None) -> None:
    """Refuse what a key signs, by its name or its id, now and for ever: for a key that was lost or stolen.

    \b
    Example:
      edgepack trust revoke vendor-2025 --note "laptop stolen on 2026-03-01"
    """
    from edgepack.signing.trust_file import known_key

    def revoked(file: TrustFile) -> TrustFile:
        known = known_key(file, name)
        changes = {"revoked": True, **({} if note is None else {"note": note})}
        return file.model_copy(update={"keys": {**file.keys, known: file.keys[known].model_copy(update=changes)}})

    _change(revoked, trust_file, f"{name}: revoked; a bundle that no other trusted key signed is refused")


@trust.command()
@click.option("--unsigned", type=_POLICY, help="What to do with a bundle without a signature.")
@click.option("--untrusted", type=_POLICY, help="With one that only unknown or expired keys signed.")
@trust_option
def policy(*, unsigned: str | None, untrusted: str | None, trust_file: Path | None) -> None:
    """Set what happens with bundles that no trusted key signed.

    Every command that uses a model follows it. A wrong signature, or one by a revoked key only, is refused whatever the policy.

    \b
    Examples:
      edgepack trust policy --unsigned refuse
      edgepack trust policy --unsigned allow --untrusted warn
    """
    if unsigned is None and untrusted is None:
        raise click.UsageError("name what to change: --unsigned or --untrusted; 'edgepack trust list' shows both")
    changes = {name: value for name, value in (("unsigned", unsigned), ("untrusted", untrusted)) if value is not None}

    def changed(file: TrustFile) -> TrustFile:
        return file.model_copy(update={"policy": file.policy.model_copy(update=changes)})

    _change(changed, trust_file, ", ".join(f"{name}: {value}" for name, value in changes.items()))


def _change(change: Callable[[TrustFile], TrustFile], trust_file: Path | None, told: str) -> None:
    from edgepack.cli.terminal import shown
    from edgepack.signing.trust_file import change_trust_file

    path = change_trust_file(change, trust_file)
    click.echo(f"{told} ({shown(path)})")


def _trusted(key: Any, fields: dict[str, Any]) -> TrustedKey:
    from pydantic import ValidationError

    from edgepack.core.errors import UsageError
    from edgepack.signing.trust_file import TrustedKey

    try:
        return TrustedKey.of(key, **fields)
    except ValidationError as exc:
        raise UsageError("; ".join(one["msg"].removeprefix("Value error, ") for one in exc.errors())) from exc


def _content(key: TrustedKey) -> dict[str, Any]:
    return {"key_id": key.key.key_id, "algorithm": key.key.algorithm, **key.model_dump(mode="json")}


def _row(name: str, key: TrustedKey) -> tuple[str, ...]:
    from rich.markup import escape

    dates = [moment.date().isoformat() if moment else "" for moment in (key.not_before, key.not_after)]
    return (name, key.key.key_id, key.key.algorithm, *dates, _standing(key), escape(key.note))


def _standing(key: TrustedKey) -> str:
    from edgepack.signing.trust import standing_of

    return standing_of(key)
