"""`edgepack verify`: is a bundle whole, and does it give here what it gave where it was built?"""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import bundle_argument, json_option, variant_option
from edgepack.core.errors import CheckFailed

if TYPE_CHECKING:
    from edgepack.bundle.golden import GoldenResult
    from edgepack.opened import VerifyResult


@click.command()
@bundle_argument
@variant_option
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the runtime.")
@json_option
def verify(*, bundle: Path, variant: str | None, threads: int, as_json: bool) -> None:
    """Prove that a bundle is whole and runs right here.

    Checks every byte of BUNDLE against its manifest, then runs its golden inputs through the runtime and compares the outputs with
    those that the build recorded; of a bundle for several targets, those of every runtime that is here. Exit code 10: the file is damaged. Exit code 8: an output differs more than allowed.

    \b
    Examples:
      edgepack verify dist/digits-1.0.0-arm64.edgepack
      edgepack verify --json model.edgepack | jq .passed
    """
    from edgepack.cli.progress import shown_progress
    from edgepack.cli.terminal import echo_json
    from edgepack.core.chatter import chatter_to
    from edgepack.opened import verify as verify_bundle

    # The runtime greets on descriptor 2; nobody misses that, so its log goes with the folder.
    with shown_progress(quiet=as_json) as progress, TemporaryDirectory() as folder, chatter_to(Path(folder) / "log"):
        result = verify_bundle(bundle, target=variant, threads=threads, progress=progress)
    if as_json:
        echo_json(_content(result))
    else:
        _show(result)
    if not result.passed:
        wrong = ", ".join(f"'{one.output}'" for one in result.golden if not one.passed)
        raise CheckFailed(
            f"{bundle}: this machine gives other outputs than the build recorded for {wrong}; the file is whole, so compare the runtime's version"
        )


def _content(result: VerifyResult) -> dict[str, Any]:
    from edgepack.core.digest import sha256_file

    return {
        "bundle": str(result.bundle.path),
        "sha256": sha256_file(result.bundle.path),
        "whole": True,
        "variants": [
            {
                "target": one.target,
                "golden": [_golden(output) for output in one.golden],
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


def _show(result: VerifyResult) -> None:
    from edgepack.cli.tables import golden_table
    from edgepack.cli.terminal import draw, shown

    click.echo(f"{shown(result.bundle.path)}: whole, {len(result.bundle.names)} files")
    for variant in result.variants:
        if variant.not_run:
            click.secho(f"Whether {variant.target} runs right was not checked: {variant.not_run}", fg="yellow")
        else:
            draw(golden_table(variant.golden, title=variant.target if len(result.variants) > 1 else ""))
