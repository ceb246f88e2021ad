"""`edgepack build`: from a recipe to a bundle for each target."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.invocation import Invocation
from edgepack.cli.options import FOLDER, complete_target, json_option, recipe_option, work_dir_option
from edgepack.cli.supervise import supervise

if TYPE_CHECKING:
    from edgepack.bundle import Bundle


@click.command()
@recipe_option
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_target,
    help="Kind of device to build for; may be given several times.  [default: `targets` of the recipe]",
)
@work_dir_option(".edgepack beside the recipe")
@click.option("--dist-dir", type=FOLDER, show_default="dist beside the recipe", help="Folder for finished bundles.")
@click.option("--allow-failed-checks", is_flag=True, help="Bundle a model that fails a check, marked as failed.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no table: print the bundle's path only.")
@json_option
@click.pass_obj
def build(
    invocation: Invocation,
    *,
    recipe: Path,
    targets: tuple[str, ...],
    work_dir: Path | None,
    dist_dir: Path | None,
    allow_failed_checks: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compress, export, verify and bundle a trained model.

    Finished stages are kept in the work folder and reused, so a build that was interrupted goes on where it was, and one with nothing
    to do ends at once. A failed check ends it with exit code 8; no bundle is written then.

    \b
    Examples:
      edgepack build
      edgepack build --recipe examples/digits --target arm64
      edgepack build --json | jq -r '.bundles[].sha256'
    """
    invocation.keeps_stages = True
    supervise(invocation)

    from edgepack.cli.progress import shown_progress
    from edgepack.cli.terminal import echo_json
    from edgepack.core.chatter import chatter_to
    from edgepack.pipeline import build as build_bundle
    from edgepack.recipe import load_recipe

    made = []
    for name in targets or load_recipe(recipe).targets:
        started = time.monotonic()
        with ExitStack() as around:
            progress = around.enter_context(shown_progress(quiet=quiet))
            if not invocation.debug:  # what libraries print would be among our results; a debugger needs the terminal
                around.enter_context(chatter_to(Path(os.devnull)))
            bundle = build_bundle(
                recipe,
                target=name,
                work_folder=work_dir,
                dist_folder=dist_dir,
                allow_failed_checks=allow_failed_checks,
                progress=progress,
            )
        made.append(_summary(bundle, seconds=time.monotonic() - started))
        if not as_json:
            _show(bundle, made[-1], quiet=quiet)
    if as_json:
        echo_json({"bundles": made})


def _summary(bundle: Bundle, *, seconds: float) -> dict[str, Any]:
    from edgepack.core.digest import sha256_file

    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "target": manifest.target,
        "sha256": sha256_file(bundle.path),
        "size_bytes": bundle.path.stat().st_size,
        "model_size_bytes": manifest.model.size_bytes,
        "metric": None if manifest.metric is None else manifest.metric.model_dump(mode="json"),
        "checks": [check.model_dump(mode="json") for check in manifest.checks],
        "checks_passed": manifest.checks_passed,
        "seconds": round(seconds, 3),
    }


def _show(bundle: Bundle, summary: dict[str, Any], *, quiet: bool) -> None:
    from edgepack.cli.terminal import shown

    path = shown(bundle.path)
    if quiet:
        click.echo(path)
        return
    from edgepack.cli.tables import checks_table
    from edgepack.cli.terminal import draw
    from edgepack.cli.words import duration, percent, size

    manifest = bundle.manifest
    draw(checks_table(manifest.checks))
    if not manifest.checks_passed:
        click.secho("Some checks failed; the bundle says so, as --allow-failed-checks asked.", fg="yellow")
    if (metric := manifest.metric) is not None:
        click.echo(f"{metric.name} {percent(metric.value)} (original {percent(metric.float_value)})", nl=False)
        click.echo(f" · model {size(manifest.model.size_bytes)} · {duration(summary['seconds'])}")
    click.echo(path)
