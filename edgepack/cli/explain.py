"""`edgepack explain`: what each layer of a bundle's model costs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.invocation import Invocation
from edgepack.cli.options import FILE, json_option, variant_option, work_dir_option
from edgepack.cli.supervise import supervise
from edgepack.cli.wire_input import restored
from edgepack.core.errors import UsageError

if TYPE_CHECKING:
    from edgepack.codec.types import Profile
    from edgepack.explain import Sensitivity


def _all_restored(context: click.Context, parameter: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(restored(context, parameter, path) for path in paths)


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...", type=FILE, callback=_all_restored)
@variant_option
@work_dir_option(".edgepack beside the bundle's folder")
@click.option(
    "--profile",
    type=click.Choice(["small", "fast"]),
    default="small",
    show_default=True,
    help="The coder whose bits are counted, as in 'edgepack pack'; fast takes a fifth of the time.",
)
@click.option(
    "--sort",
    "order",
    type=click.Choice(["coded", "parameters", "macs", "bits", "sensitivity", "share", "order"]),
    default="coded",
    show_default=True,
    help="Which layers come first: the largest of this; 'order' is that of execution.",
)
@click.option("--latency", is_flag=True, help="Run the model here, and time the operators of each layer.")
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Measure how much each layer's weights matter, and its share of what the build lost.",
)
@click.option("--bits", type=click.IntRange(2, 16), help="The bits of --sensitivity.  [default: 4]")
@click.option(
    "--samples",
    type=click.IntRange(min=2),
    metavar="N",
    help="How many calibration samples it takes at most.  [default: 100]",
)
@click.option(
    "--points",
    is_flag=True,
    help="As --sensitivity, and what each layer costs in points of the metric, on all evaluation samples.",
)
@click.option(
    "--steps",
    is_flag=True,
    help="Export and judge the model after each step of the build: what did it buy? With --latency, timed, too.",
)
@click.option(
    "-r",
    "--recipe",
    type=click.Path(path_type=Path, exists=True),
    metavar="FILE|FOLDER",
    help="The recipe of the build, for samples and models.  [default: the file beside the work folder that was built]",
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Show the first N layers.  [default: all]")
@click.option("--html", "page", type=FILE, metavar="FILE", help="Write a page with pictures.")
@click.option(
    "--csv",
    "table",
    type=FILE,
    metavar="FILE",
    help="Write one row a layer; with --steps one a step, too, into a file beside it.",
)
@json_option
@click.pass_obj
def explain(
    invocation: Invocation,
    *,
    bundles: tuple[Path, ...],
    variant: str | None,
    work_dir: Path | None,
    profile: Profile,
    latency: bool,
    sensitivity: bool,
    bits: int | None,
    samples: int | None,
    points: bool,
    steps: bool,
    recipe: Path | None,
    order: str,
    top: int | None,
    page: Path | None,
    table: Path | None,
    as_json: bool,
) -> None:
    """Show what each layer of a model costs, and what is left.

    For each layer of BUNDLE: parameters, zeros, multiplications, bytes in the file, bits once coded for the wire, distinct codes,
    noise of the rounding. The sum of the bits is the model's description length, shown beside its accuracy. What the original
    had is read from the build's work folder where that is here. Several bundles stand side by side.

    --sensitivity, --points and --steps run the models that the build kept, on the samples of its recipe, so they need its folder.

    \b
    Examples:
      edgepack explain dist/digits-1.0.0-arm64.edgepack
      edgepack explain digits-1.0.0.edgepack --variant arm64 --sort macs --top 10
      edgepack explain before.edgepack after.edgepack --html explained.html
      edgepack explain model.edgepack --latency --sort order
      edgepack explain model.edgepack --sensitivity --bits 4 --sort share
      edgepack explain model.edgepack --steps --latency --html explained.html
      edgepack explain model.edgepack --json | jq '.models[0].description_bits'
    """
    runs_build = sensitivity or points or steps
    if runs_build:
        invocation.keeps_stages = True
        supervise(invocation)

    from edgepack.cli.explain_tables import show
    from edgepack.cli.progress import shown_progress
    from edgepack.cli.terminal import echo_json
    from edgepack.core.chatter import chatter_to
    from edgepack.explain import explain as account_of
    from edgepack.explain.account import with_unique_titles

    asked = _asked(bits, samples, points=points) if sensitivity or points else None
    if asked is None and (bits is not None or samples is not None):
        raise UsageError("--bits and --samples are of --sensitivity; add that, or leave them out")
    with ExitStack() as around:
        progress = around.enter_context(shown_progress(quiet=as_json))
        if runs_build and not invocation.debug:  # what libraries print would be among our results
            around.enter_context(chatter_to(Path(os.devnull)))
        found = [
            account_of(
                path,
                target=variant,
                work_folder=work_dir,
                profile=profile,
                latency=latency,
                sensitivity=asked,
                steps=steps,
                recipe=recipe,
                progress=progress,
            )
            for path in bundles
        ]
    accounts = with_unique_titles(found)
    if as_json:
        echo_json({"schema": "edgepack.explain/1", "models": [one.as_dict() for one in accounts]})
    else:
        show(accounts, order=order, top=top)
    if table is not None:
        from edgepack.explain.account import CSV_HEAD, STEPS_HEAD, csv_rows, steps_csv_rows

        _write(table, _csv(CSV_HEAD, csv_rows(accounts)), quiet=as_json)
        if steps:
            beside = table.with_suffix(f".steps{table.suffix}")
            _write(beside, _csv(STEPS_HEAD, steps_csv_rows(accounts)), quiet=as_json)
    if page is not None:
        from edgepack.explain.page import explain_page

        _write(page, explain_page(accounts), quiet=as_json)


def _asked(bits: int | None, samples: int | None, *, points: bool) -> Sensitivity:
    """The defaults are those of the class."""
    from edgepack.explain import Sensitivity

    given = {"bits": bits, "samples": samples}
    return Sensitivity(points=points, **{name: value for name, value in given.items() if value is not None})


def _csv(head: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    import csv
    import io

    stream = io.StringIO()
    writer = csv.DictWriter(stream, head, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _write(path: Path, content: str, *, quiet: bool) -> None:
    from edgepack.cli.terminal import shown
    from edgepack.cli.words import size
    from edgepack.core.files import write_atomic

    write_atomic(path, content.encode())
    if not quiet:
        click.echo(f"{shown(path)}  {size(len(content.encode()))}")
