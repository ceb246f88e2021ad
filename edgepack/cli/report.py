"""`edgepack report`: results of benchmarks as one HTML file that works offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import FILE, json_option
from edgepack.cli.results import complete_reference

if TYPE_CHECKING:
    from edgepack.report.figures import Figures
    from edgepack.store.results import Where

_DEFAULT = Path("report.html")


@click.command()
@click.argument("references", nargs=-1, metavar="[REF]...", shell_complete=complete_reference)
@click.option("-o", "--output", type=FILE, metavar="FILE", help=f"Where to write the page.  [default: {_DEFAULT}]")
@click.option("--device", metavar="NAME", help="Only runs on this device.")
@click.option("--bundle", metavar="NAME", help="Only runs of the bundle of this name.")
@click.option("--since", metavar="DATE", help="Only runs that began then or later, e.g. 2026-11-20.")
@click.option("--open", "opened", is_flag=True, help="Open the page in the browser.")
@json_option
def report(
    *,
    references: tuple[str, ...],
    output: Path | None,
    device: str | None,
    bundle: str | None,
    since: str | None,
    opened: bool,
    as_json: bool,
) -> None:
    """Write benchmark results as one HTML page.

    REF is a bench of the results store: its id or the beginning of it, 'latest', or 'latest~2' (two before). Several stand side by
    side. It may also be a file that 'edgepack bench --save' wrote. Without REF it is the latest bench, or with a filter every
    run that fits. The page needs no network and no other file; docs/report.md says what is on it.

    \b
    Examples:
      edgepack report
      edgepack report latest latest~1 -o compared.html --open
      edgepack report --bundle digits --since 2026-11-01
      edgepack report results/bench.json --json | jq '.rows[].numbers.latency_p50_ms'
    """
    from edgepack.cli.terminal import echo_json
    from edgepack.store.results import Where

    figures = _figures(references, Where(device=device, bundle=bundle, since=since))
    if as_json:
        echo_json(figures.as_dict())
    if output is not None or opened or not as_json:
        _write(figures, output or _DEFAULT, opened=opened, quiet=as_json)


def _figures(references: tuple[str, ...], where: Where) -> Figures:
    from edgepack.core.errors import UsageError
    from edgepack.report.figures import figures_of
    from edgepack.report.material import from_files, from_store
    from edgepack.store.results import Where, open_store

    files = [Path(reference) for reference in references if _names_a_file(reference)]
    if files:
        if len(files) < len(references) or where != Where():
            raise UsageError("report: a file goes with other files alone, without benches of the store or filters")
        return figures_of(from_files(files))
    if not references and where == Where():
        references = ("latest",)
    with open_store() as store:
        return figures_of(from_store(store, references, where))


def _names_a_file(reference: str) -> bool:
    return reference.endswith(".json") or Path(reference).is_file()


def _write(figures: Figures, output: Path, *, opened: bool, quiet: bool) -> None:
    import webbrowser

    from edgepack.cli.terminal import shown
    from edgepack.cli.words import size
    from edgepack.core.files import write_atomic
    from edgepack.report.html import page_of

    content = page_of(figures).encode()
    write_atomic(output, content)
    if not quiet:
        runs = sum(row.runs for row in figures.rows.rows)
        out = f", {figures.rows.excluded_total} not counted" if figures.rows.excluded_total else ""
        click.echo(f"{runs} runs in {len(figures.rows.rows)} rows{out}")
        click.echo(f"{shown(output)}  {size(len(content))}")
    if opened:
        webbrowser.open(output.resolve().as_uri())
