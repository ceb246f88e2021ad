"""`edgepack cache`: the finished stages that builds reuse."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import json_option, work_dir_option

if TYPE_CHECKING:
    from edgepack.store.cache import StageCache

_UNUSED_DAYS = 30.0


@click.group()
def cache() -> None:
    """Show or prune the finished stages of builds.

    \b
    Examples:
      edgepack cache show
      edgepack cache prune --older-than 7
    """


@cache.command()
@work_dir_option(".edgepack here")
@json_option
def show(*, work_dir: Path | None, as_json: bool) -> None:
    """List finished stages, last used first.

    \b
    Example:
      edgepack cache show --work-dir examples/digits/.edgepack
    """
    from edgepack.cli.tables import plain_table
    from edgepack.cli.terminal import draw, echo_json, shown
    from edgepack.cli.words import duration, size

    stages = _open(work_dir)
    entries = stages.entries()
    total_bytes = sum(entry.size_bytes for entry in entries)
    if as_json:
        listed = [
            {
                "stage": entry.stage,
                "key": entry.key,
                "folder": str(entry.folder),
                "size_bytes": entry.size_bytes,
                "seconds": entry.seconds,
                "last_used": entry.last_used,
            }
            for entry in entries
        ]
        echo_json({"work_folder": str(stages.root), "size_bytes": total_bytes, "stages": listed})
        return
    if entries:
        columns = {"stage": "left", "key": "left", "size": "right", "took": "right", "last used": "right"}
        now = time.time()
        rows = [
            (
                e.stage,
                e.key[:12],
                size(e.size_bytes),
                duration(e.seconds),
                f"{duration(max(0.0, now - e.last_used))} ago",
            )
            for e in entries
        ]
        draw(plain_table("", columns, rows))
    click.echo(f"{shown(stages.root)}: {len(entries)} stages, {size(total_bytes)}")


@cache.command()
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help=f"Remove stages that were not used for so long.  [default: {_UNUSED_DAYS:g}]",
)
@click.option("--all", "everything", is_flag=True, help="Remove every stage.")
@work_dir_option(".edgepack here")
@json_option
def prune(*, older_than: float | None, everything: bool, work_dir: Path | None, as_json: bool) -> None:
    """Remove stages that were not used for long, and what killed builds left behind.

    \b
    Examples:
      edgepack cache prune
      edgepack cache prune --all
    """
    from edgepack.cli.terminal import echo_json, shown
    from edgepack.cli.words import size

    if everything and older_than is not None:
        raise click.UsageError("--all and --older-than exclude each other")
    stages = _open(work_dir)
    days = 0.0 if everything else _UNUSED_DAYS if older_than is None else older_than
    removed, freed_bytes = stages.prune(older_than_days=days)
    if as_json:
        echo_json({"work_folder": str(stages.root), "removed": removed, "freed_bytes": freed_bytes})
    else:
        click.echo(f"{shown(stages.root)}: {removed} stages removed, {size(freed_bytes)} freed")


def _open(work_dir: Path | None) -> StageCache:
    from edgepack.store.cache import StageCache

    return StageCache(work_dir or Path(".edgepack").absolute())
