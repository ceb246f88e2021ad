"""`edgepack verify`: is a bundle whole, who signed it, and does it give here, or on a device, what it gave where it was built?"""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import (
    FILE,
    complete_device,
    inventory_option,
    json_option,
    require_signed_option,
    trust_option,
    variant_option,
)
from edgepack.cli.wire_input import restored
from edgepack.core.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from edgepack.bundle.golden import GoldenResult
    from edgepack.signing import Trust
    from edgepack.verified import VerifyResult


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), callback=restored)
@variant_option
@click.option(
    "--on",
    "device",
    metavar="DEVICE",
    shell_complete=complete_device,
    help="Run the golden samples there: local, ssh://[user@]host[:port], adb://SERIAL, labgrid://PLACE, or a name from devices.toml.",
)
@inventory_option
@click.option("--provision", is_flag=True, help="Bring the runtime's packages to the device first.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the runtime.")
@click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    metavar="KEY",
    help="Take only what this public key signed; may be given again.",
)
@click.option(
    "--signature", type=FILE, metavar="FILE", help="A signature of OpenSSF Model Signing to check BUNDLE with."
)
@require_signed_option
@trust_option
@json_option
def verify(
    *,
    bundle: Path,
    variant: str | None,
    device: str | None,
    inventory: Path | None,
    provision: bool,
    threads: int,
    keys: tuple[Path, ...],
    signature: Path | None,
    require_signed: bool,
    trust_file: Path | None,
    as_json: bool,
) -> None:
    """Prove that a bundle is whole, trusted, and runs right.

    Checks every byte of BUNDLE against its manifest, its signatures against the keys that this machine trusts (edgepack trust), then runs its golden inputs
    through the runtime and compares the outputs with those that the build recorded; of a bundle for several targets, those of every runtime that is
    there. With --signature BUNDLE may also be an unpacked folder, of which only the signature is checked.

    Exit codes: 10 the file is damaged, 13 the signature is wrong or nobody trusted signed it, 8 an output differs more than allowed, 11 the device went away.

    \b
    Examples:
      edgepack verify dist/digits-1.0.0-arm64.edgepack
      edgepack verify model.edgepack --on ssh://pi@board --provision
      edgepack verify model.edgepack --key release-2026.pub.pem
      edgepack verify model.edgepack --signature model.sig --key release-p256.pub.pem
      edgepack verify --json model.edgepack | jq .passed
    """
    from edgepack.cli.progress import shown_progress
    from edgepack.cli.terminal import echo_json
    from edgepack.core.chatter import chatter_to

    trust = _trust(keys, trust_file, require_signed=require_signed)
    signer = None if signature is None else _check_signature(bundle, signature, trust)
    if bundle.is_dir():
        _only_the_signature(bundle, signer, as_json=as_json)
        return
    from edgepack.verified import verify as verify_bundle

    # With a signature of its own, the one inside is told but not asked for.
    inner = trust if signature is None else trust.lenient
    # The runtime greets on descriptor 2; nobody misses that, so its log goes with the folder.
    with shown_progress(quiet=as_json) as progress, TemporaryDirectory() as folder, chatter_to(Path(folder) / "log"):
        result = verify_bundle(
            bundle,
            target=variant,
            device=device,
            inventory=inventory,
            provision=provision,
            threads=threads,
            trust=inner,
            progress=progress,
        )
    if as_json:
        echo_json(_content(result, signer))
    else:
        _show(result, signer)
    _raise_unless_passed(result, bundle)


def _trust(keys: tuple[Path, ...], trust_file: Path | None, *, require_signed: bool) -> Trust:
    from edgepack.signing.key_files import read_public_key
    from edgepack.signing.trust import Trust, load_trust

    if keys:
        differ = len({path.name for path in keys}) == len(keys)
        return Trust.only({path.name if differ else str(path): read_public_key(path) for path in keys})
    return load_trust(trust_file, require_signed=require_signed)


def _check_signature(path: Path, signature: Path, trust: Trust) -> str:
    """Who made a signature of OpenSSF Model Signing over a bundle or a folder."""
    from edgepack.signing.signed_files import check_signature_file

    return check_signature_file(path, signature, trust)


def _only_the_signature(folder: Path, signer: str | None, *, as_json: bool) -> None:
    from edgepack.cli.terminal import echo_json, shown

    if signer is None:
        raise UsageError(f"{folder}: is a folder; name a bundle, or give the folder's --signature")
    if as_json:
        echo_json({"folder": str(folder), "signature_by": signer, "passed": True})
    else:
        click.echo(f"{shown(folder)}: every file is as {signer} signed it")


def _raise_unless_passed(result: VerifyResult, bundle: Path) -> None:
    if result.passed:
        return
    wrong = ", ".join(f"'{one.output}'" for one in result.golden if not one.passed)
    where = "this machine" if result.device is None else result.device.name
    raise CheckFailed(
        f"{bundle}: {where} gives other outputs than the build recorded for {wrong}; the file is whole, so compare the runtime's version"
    )


def _content(result: VerifyResult, signer: str | None) -> dict[str, Any]:
    from dataclasses import asdict

    from edgepack.core.digest import sha256_file

    return {
        "bundle": str(result.bundle.path),
        "sha256": sha256_file(result.bundle.path),
        "whole": True,
        "trust": result.trust.verdict,
        "signatures": [
            {"key_id": one.key.key_id, "algorithm": one.key.algorithm, "name": one.name, "standing": one.standing}
            for one in result.trust.signers
        ],
        **({"signature_by": signer} if signer is not None else {}),
        "warnings": list(result.trust.warnings),
        "device": None if result.device is None else asdict(result.device),
        "variants": [
            {
                "target": one.target,
                "golden": [_golden(output) for output in one.golden],
                **({"runtime": one.runtime} if one.runtime else {}),
                **({"not_run": one.not_run} if one.not_run else {}),
            }
            for one in result.variants
        ],
        "passed": result.passed,
    }


def _golden(one: GoldenResult) -> dict[str, Any]:
    return {
        "output": one.output,
        "largest_steps": one.largest_steps if math.isfinite(one.largest_steps) else None,
        "tolerance_steps": one.tolerance_steps,
        "values": one.values,
        "differing": one.differing,
        "passed": one.passed,
    }


def _show(result: VerifyResult, signer: str | None) -> None:
    from edgepack.cli.tables import golden_table
    from edgepack.cli.terminal import draw, shown

    click.echo(f"{shown(result.bundle.path)}: whole, {len(result.bundle.names)} files")
    _show_trust(result, signer)
    for variant in result.variants:
        if variant.not_run:
            click.secho(f"Whether {variant.target} runs right was not checked: {variant.not_run}", fg="yellow")
            continue
        parts = [variant.target] if len(result.variants) > 1 else []
        if result.device is not None:
            parts.append(f"on {result.device.name} ({result.device.transport}), {variant.runtime}")
        draw(golden_table(variant.golden, title=" ".join(parts)))


def _show_trust(result: VerifyResult, signer: str | None) -> None:
    from edgepack.signing.trust import shown as signers

    if signer is not None:
        click.echo(f"as {signer} signed it (OpenSSF Model Signing)")
    found = result.trust
    if found.verdict == "unsigned":
        click.echo("not signed")
    else:
        click.secho(f"signed by {signers(found.signers)}", fg="green" if found.verdict == "trusted" else "yellow")
    for line in found.warnings:
        click.secho(f"! {line}", fg="yellow")
