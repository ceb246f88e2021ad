"""`edgepack build`: from a recipe to a bundle for each target."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
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
@click.option(
    "--all-targets",
    is_flag=True,
    help="Build for every target: those of edgepack, and those of the project's targets/ folder.",
)
@work_dir_option(".edgepack beside the recipe")
@click.option("--dist-dir", type=FOLDER, show_default="dist beside the recipe", help="Folder for finished bundles.")
@click.option("--together", is_flag=True, help="Write one more bundle, which holds the models of all targets.")
@click.option("--allow-failed-checks", is_flag=True, help="Bundle a model that fails a check, marked as failed.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no table: print the bundle's path only.")
@json_option
@click.pass_obj
def build(
    invocation: Invocation,
    *,
    recipe: Path,
    targets: tuple[str, ...],
    all_targets: bool,
    work_dir: Path | None,
    dist_dir: Path | None,
    together: bool,
    allow_failed_checks: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compress, export, verify and bundle a trained model.

    Finished stages are kept in the work folder and reused, so a build that was interrupted goes on where it was, and one with nothing
    to do ends at once. Targets that can share a quantization grid share one training, and the parity table says how their runtimes
    compare. A failed check ends it with exit code 8; no bundle is written then.

    \b
    Examples:
      edgepack build
      edgepack build --recipe examples/digits --target arm64 --target intel
      edgepack build --all-targets --together
      edgepack build --json | jq -r '.bundles[].sha256'
    """
    invocation.keeps_stages = True
    supervise(invocation)

    from edgepack.cli.progress import shown_progress
    from edgepack.cli.terminal import echo_json, shown
    from edgepack.cli.words import duration
    from edgepack.core.chatter import chatter_to
    from edgepack.core.errors import CheckFailed, UsageError
    from edgepack.pipeline import build_all

    if targets and all_targets:
        raise UsageError("--target and --all-targets exclude each other; leave one out")
    started = time.monotonic()
    with ExitStack() as around:
        progress = around.enter_context(shown_progress(quiet=quiet))
        if not invocation.debug:  # what libraries print would be among our results; a debugger needs the terminal
            around.enter_context(chatter_to(Path(os.devnull)))
        try:
            result = build_all(
                recipe,
                targets=_every_target(recipe) if all_targets else targets or None,
                work_folder=work_dir,
                dist_folder=dist_dir,
                allow_failed_checks=allow_failed_checks,
                progress=progress,
            )
        except CheckFailed as exc:
            around.close()
            if exc.parity is not None and not quiet and not as_json:
                show_parity(json.loads(exc.parity.read_text(encoding="utf-8")))
            raise
    joined = _join(result.bundles) if together else None
    seconds = round(time.monotonic() - started, 3)
    parity: dict[str, Any] = json.loads(result.parity.file.read_text(encoding="utf-8"))
    if as_json:
        summaries = [_summary(bundle) for bundle in result.bundles]
        whole = {} if joined is None else {"together": _file_summary(joined)}
        echo_json({"bundles": summaries, **whole, "parity": parity, "seconds": seconds})
        return
    if not quiet:
        for bundle in result.bundles:
            _show(bundle)
        show_parity(parity)
        click.echo(duration(seconds))
    for bundle in result.bundles:
        click.echo(shown(bundle.path))
    if joined is not None:
        click.echo(shown(joined))


def _join(bundles: Sequence[Bundle]) -> Path:
    """The bundle of all targets, beside theirs."""
    from edgepack.bundle.join import join

    about = bundles[0].manifest
    path = bundles[0].path.parent / f"{about.name}-{about.version}.edgepack"
    return bundles[0].path if len(bundles) == 1 else join(bundles, path)


def _every_target(recipe: Path) -> tuple[str, ...]:
    from edgepack.recipe import find_recipe
    from edgepack.targets import target_names

    return tuple(target_names(find_recipe(recipe).parent))


def show_parity(parity: dict[str, Any]) -> None:
    """Draw the parity tables of a build with more than one runtime, and say what was not run. `parity` is reports/parity.json."""
    from edgepack.cli.tables import parity_tables
    from edgepack.cli.terminal import draw

    if parity["pairs"] or parity["not_run"]:
        draw(*parity_tables(parity))
        for name, reason in parity["not_run"].items():
            click.secho(f"not run: {name}: {reason}", dim=True)
        for row in parity["rows"]:
            for note in row["notes"]:
                click.secho(f"{row['name']}: {note}", fg="yellow")


def _file_summary(path: Path) -> dict[str, Any]:
    from edgepack.core.digest import sha256_file

    return {"bundle": str(path), "sha256": sha256_file(path), "size_bytes": path.stat().st_size}


def _summary(bundle: Bundle) -> dict[str, Any]:
    variant = bundle.variant()
    return {
        **_file_summary(bundle.path),
        "target": variant.target,
        "model_size_bytes": variant.model.total_bytes,
        "metric": None if variant.metric is None else variant.metric.model_dump(mode="json"),
        "checks": [check.model_dump(mode="json") for check in variant.checks],
        "checks_passed": variant.checks_passed,
    }


def _show(bundle: Bundle) -> None:
    from edgepack.cli.tables import checks_table
    from edgepack.cli.terminal import draw
    from edgepack.cli.words import percent, size

    variant = bundle.variant()
    if variant.checks:
        draw(checks_table(variant.checks))
    if not variant.checks_passed:
        click.secho("Some checks failed; the bundle says so, as --allow-failed-checks asked.", fg="yellow")
    if (metric := variant.metric) is not None:
        original = "" if metric.float_value is None else f" (original {percent(metric.float_value)})"
        click.echo(f"{metric.name} {percent(metric.value)}{original}", nl=False)
        for one in metric.also:
            click.echo(f" · {one.name} {percent(one.value)}", nl=False)
        click.echo(f" · model {size(variant.model.total_bytes)} · {variant.target}")
