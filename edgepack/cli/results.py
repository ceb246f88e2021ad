"""`edgepack results`: what the results store holds, and what other programs get of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import click

from edgepack.cli.options import FILE, json_option

if TYPE_CHECKING:
    from edgepack.store.results import ResultStore, Where

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_STATUSES = ("complete", "partial", "void", "failed")
_FILTERS = {
    "device": "A device's name, or transport:name.",
    "bundle": "A bundle's name.",
    "version": "A bundle's version.",
    "target": "A target's name.",
    "label": "Which model: bundle, float …",
    "model": "First digits of the model file's sha256.",
    "runtime": "The runtime's name.",
    "suite": "The suite's name.",
    "since": "Only runs from this date or time on (ISO 8601, UTC).",
}
# Formats and their words are those of store/exports, which is not imported for --help; a test compares the two.
FORMATS = (
    "json",
    "csv",
    "parquet",
    "junit",
    "bmf",
    "github-action-benchmark",
    "github-action-benchmark-bigger",
    "github-summary",
)


def complete_reference(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Benches that begin so, the newest first, and 'latest'."""
    benches = _in_the_store(lambda store: store.benches())
    names = [bench.bench for bench in reversed(benches)]
    return [name for name in ["latest", *names] if names and name.startswith(incomplete)]


def complete_run(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Keys of runs that begin so, the newest first, a hundred at most."""
    from edgepack.store.results import Where

    found = _in_the_store(lambda store: store.summaries(Where(key=incomplete or None), limit=100))
    return [run.key for run in reversed(found)]


def _in_the_store(read: Callable[[ResultStore], list[T]]) -> list[T]:
    """What a shell completes is read without a word: nothing where there is no store yet or it can't be read."""
    from edgepack.core.errors import EdgepackError
    from edgepack.store.results import open_store
    from edgepack.store.sql.place import place_of

    try:
        path = place_of(None).path
        if path is not None and not path.exists():
            return []
        with open_store() as store:
            return read(store)
    except EdgepackError:
        return []


def filter_options(function: F) -> F:
    """The fields of `Where` as options."""
    for name, text in reversed(_FILTERS.items()):
        function = click.option(f"--{name}", metavar=name.upper(), help=text)(function)
    return click.option("--status", type=click.Choice(_STATUSES), help="How a run ended.")(function)


def _reference(*, required: bool) -> Callable[[F], F]:
    return click.argument("reference", metavar="BENCH", required=required, shell_complete=complete_reference)


@click.group(invoke_without_command=True)
@click.pass_context
def results(ctx: click.Context) -> None:
    """List, show, export and delete the results of benchmarks.

    They are kept in SQLite in your data folder, or where EDGEPACK_STORE says: a file, or postgresql://USER@HOST/DATABASE.
    BENCH is the id of one call of 'edgepack bench', its first characters, 'latest' or 'latest~1' (the one before).
    Without a command: 'results list'.

    \b
    Examples:
      edgepack results
      edgepack results runs latest --status partial
      edgepack results export latest --format junit -o results.xml
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_benches)


@results.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many, the newest.")
@json_option
def list_benches(*, limit: int, as_json: bool, **filters: str | None) -> None:
    """List benches, the newest last.

    \b
    Examples:
      edgepack results list --device pi5 --since 2026-11-01
      edgepack results list --bundle digits --json
    """
    from edgepack.cli.results_tables import bench_fields, benches_table
    from edgepack.cli.terminal import draw, echo_json

    with _store() as store:
        found = store.benches(_where(filters))
    shown = found[-limit:]
    if as_json:
        echo_json({"store": store.place.shown, "benches": [bench_fields(bench) for bench in shown]})
        return
    if shown:
        draw(benches_table(shown))
    older = f", the newest {limit} of them shown (--limit)" if len(found) > limit else ""
    click.echo(f"{store.place.shown}: {len(found)} bench{'' if len(found) == 1 else 'es'}{older}")


@results.command()
@_reference(required=False)
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many, the newest.")
@json_option
def runs(*, reference: str | None, limit: int, as_json: bool, **filters: str | None) -> None:
    """List runs, the newest last: of one bench, or of all.

    \b
    Examples:
      edgepack results runs latest
      edgepack results runs --device pi5 --status void --limit 200
    """
    from edgepack.cli.results_tables import runs_table, summary_fields
    from edgepack.cli.terminal import draw, echo_json

    with _store() as store:
        found = store.summaries(_where(filters, _resolved(store, reference)), limit=limit)
    if as_json:
        echo_json({"store": store.place.shown, "runs": [summary_fields(run) for run in found]})
        return
    if found:
        draw(runs_table(found))
    click.echo(f"{store.place.shown}: {len(found)} runs" + (" (the newest; --limit)" if len(found) == limit else ""))


@results.command()
@click.argument("run", metavar="RUN", shell_complete=complete_run)
@click.option("--samples", is_flag=True, help="Every raw sample, one a line (with --json: in the object).")
@json_option
def show(*, run: str, samples: bool, as_json: bool) -> None:
    """Show one run: what was measured, where and how.

    RUN is the first characters of a run's key, as 'edgepack results runs' lists them.

    \b
    Examples:
      edgepack results show 3f9c2a
      edgepack results show 3f9c2a --samples > samples.txt
    """
    from edgepack.cli.results_tables import record_fields, record_tables, sample_lines
    from edgepack.cli.terminal import draw, echo_json

    with _store() as store:
        record = _one_run(store, run)
        attempts = store.attempts(record.key)
    if as_json:
        echo_json(record_fields(record, attempts, with_samples=samples))
    elif samples:
        click.echo("\n".join(sample_lines(record)))
    else:
        draw(*record_tables(record, attempts))


@results.command()
@_reference(required=True)
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
def delete(*, reference: str, yes: bool, as_json: bool) -> None:
    """Delete a bench with all its runs. It can't be undone.

    \b
    Example:
      edgepack results delete latest~3
    """
    from edgepack.cli.results_tables import bench_words
    from edgepack.cli.terminal import echo_json
    from edgepack.store.results import Where

    with _store() as store:
        name = store.resolve(reference)
        (bench,) = store.benches(Where(bench=name))
        if not yes:
            click.confirm(f"Delete {bench_words(bench)} from {store.place.shown}?", abort=True, err=True)
        count = store.delete(name)
    if as_json:
        echo_json({"bench": name, "deleted_runs": count})
    else:
        click.echo(f"{name}: {count} runs deleted")


@results.command()
@_reference(required=False)
@click.option("-f", "--format", "name", type=click.Choice(FORMATS), required=True, help="docs/results.md shows each.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Else, or for '-', standard output.")
@click.option("--samples", is_flag=True, help="Raw samples, too (json, parquet).")
@filter_options
def export(*, reference: str | None, name: str, output: Path | None, samples: bool, **filters: str | None) -> None:
    """Write runs for another program: of one bench, or of all.

    json, csv and parquet have every run; junit has a test case a run; bmf (Bencher), github-action-benchmark and github-summary have the median
    of each metric over the complete runs, and refuse a selection in which one name would mean two models.

    \b
    Examples:
      edgepack results export latest --format github-summary >> "$GITHUB_STEP_SUMMARY"
      edgepack results export latest --format bmf -o bmf.json
      edgepack results export --device pi5 --format parquet --samples -o runs.parquet
    """
    from edgepack.cli.terminal import shown
    from edgepack.core.files import stream_atomic
    from edgepack.store.exports import export as export_runs

    with _store() as store:
        where = _where(filters, _resolved(store, reference))
        if output is None or str(output) == "-" or (output.exists() and not output.is_file()):
            with click.open_file("-" if output is None else str(output), "wb") as pipe:
                export_runs(store, where, name=name, stream=cast("BinaryIO", pipe), samples=samples)
            return
        with stream_atomic(output) as stream:
            export_runs(store, where, name=name, stream=stream, samples=samples)
    click.echo(shown(output))


def _store() -> ResultStore:
    from edgepack.store.results import open_store

    return open_store()


def _resolved(store: ResultStore, reference: str | None) -> str | None:
    return None if reference is None else store.resolve(reference)


def _where(filters: dict[str, str | None], bench: str | None = None) -> Where:
    from edgepack.store.results import Where

    fields: dict[str, Any] = {name: value for name, value in filters.items() if name != "model"}
    return Where(bench=bench, model_sha256=filters["model"], **fields)


def _one_run(store: ResultStore, key: str) -> Any:
    """The run whose key begins so. Raises UsageError."""
    from itertools import islice

    from edgepack.core.errors import UsageError
    from edgepack.store.results import Where

    found = list(islice(store.runs(Where(key=key.lower())), 2)) if key else []
    if len(found) == 1:
        return found[0]
    hint = "give more of it" if found else "'edgepack results runs' lists them"
    count = "more than one run's key begins" if found else "no run's key begins"
    raise UsageError(f"'{key}': {count} so in {store.place.shown}: {hint}")
