"""`edgepack explain`: what each layer of a bundle's model costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import FILE, json_option, variant_option, work_dir_option
from edgepack.cli.wire_input import restored

if TYPE_CHECKING:
    from edgepack.codec.types import Profile
    from edgepack.explain import Account


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
    type=click.Choice(["coded", "parameters", "macs", "bits", "order"]),
    default="coded",
    show_default=True,
    help="Which layers come first: the largest of this; 'order' is that of execution.",
)
@click.option("--latency", is_flag=True, help="Run the model here, and time the operators of each layer.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Show the first N layers.  [default: all]")
@click.option("--html", "page", type=FILE, metavar="FILE", help="Write a page with pictures.")
@click.option("--csv", "table", type=FILE, metavar="FILE", help="Write one row a layer.")
@json_option
def explain(
    *,
    bundles: tuple[Path, ...],
    variant: str | None,
    work_dir: Path | None,
    profile: Profile,
    latency: bool,
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

    \b
    Examples:
      edgepack explain dist/digits-1.0.0-arm64.edgepack
      edgepack explain digits-1.0.0.edgepack --variant arm64 --sort macs --top 10
      edgepack explain before.edgepack after.edgepack --html explained.html
      edgepack explain model.edgepack --latency --sort order
      edgepack explain model.edgepack --json | jq '.models[0].description_bits'
    """
    from edgepack.cli.explain_tables import show
    from edgepack.cli.progress import shown_progress
    from edgepack.cli.terminal import echo_json
    from edgepack.explain import explain as account_of
    from edgepack.explain.account import with_unique_titles

    with shown_progress(quiet=as_json) as progress:
        found = [
            account_of(path, target=variant, work_folder=work_dir, profile=profile, latency=latency, progress=progress)
            for path in bundles
        ]
    accounts = with_unique_titles(found)
    if as_json:
        echo_json({"schema": "edgepack.explain/1", "models": [one.as_dict() for one in accounts]})
    else:
        show(accounts, order=order, top=top)
    if table is not None:
        _write(table, _csv(accounts), quiet=as_json)
    if page is not None:
        from edgepack.explain.page import explain_page

        _write(page, explain_page(accounts), quiet=as_json)


def _csv(accounts: Sequence[Account]) -> str:
    import csv
    import io

    from edgepack.explain.account import CSV_HEAD, csv_rows

    stream = io.StringIO()
    rows: Any = csv.DictWriter(stream, CSV_HEAD, lineterminator="\n")
    rows.writeheader()
    rows.writerows(csv_rows(accounts))
    return stream.getvalue()


def _write(path: Path, content: str, *, quiet: bool) -> None:
    from edgepack.cli.terminal import shown
    from edgepack.cli.words import size
    from edgepack.core.files import write_atomic

    write_atomic(path, content.encode())
    if not quiet:
        click.echo(f"{shown(path)}  {size(len(content.encode()))}")
