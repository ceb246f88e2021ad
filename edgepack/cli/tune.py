"""`edgepack tune`: the combination of methods that keeps a budget."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.invocation import Invocation
from edgepack.cli.options import FOLDER, complete_device, complete_target, json_option, recipe_option, work_dir_option
from edgepack.cli.supervise import supervise

if TYPE_CHECKING:
    from edgepack.recipe import Recipe
    from edgepack.tune import Found


@click.command()
@recipe_option
@click.option(
    "-t",
    "--target",
    metavar="NAME",
    shell_complete=complete_target,
    help="Kind of device to tune for.  [default: the first of `targets`]",
)
@click.option("--max-size", metavar="SIZE", help="Largest model, packed for the wire, such as '60 kB'.")
@click.option("--max-drop-points", type=float, metavar="POINTS", help="Largest loss of the metric.")
@click.option("--max-latency-p50-ms", type=float, metavar="MS", help="Largest median latency on --device.")
@click.option("--max-memory", metavar="SIZE", help="Largest peak memory on --device.")
@click.option(
    "--device",
    default="local",
    show_default=True,
    metavar="DEVICE",
    shell_complete=complete_device,
    help="Where latency and memory are measured, if limited.",
)
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="Combinations to try.  [default: 40]")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    help="How long it may take, the final build included.",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Processes.")
@click.option("--track", multiple=True, metavar="TOOL", help="Write trials to tensorboard or mlflow, too; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Seed of the search.  [default: the recipe's]")
@work_dir_option(".edgepack beside the recipe")
@click.option("--dist-dir", type=FOLDER, show_default="dist beside the recipe", help="Folder for finished bundles.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no tables: print the bundle's path only.")
@json_option
@click.pass_obj
def tune(
    invocation: Invocation,
    *,
    recipe: Path,
    target: str | None,
    max_size: str | None,
    max_drop_points: float | None,
    max_latency_p50_ms: float | None,
    max_memory: str | None,
    device: str,
    trials: int | None,
    time_limit: float | None,
    workers: int,
    track: tuple[str, ...],
    seed: int | None,
    work_dir: Path | None,
    dist_dir: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Search for the methods that keep a budget.

    Tries combinations of compression methods and their options: each is trained a little and judged on samples held out of the training data, promising ones
    are trained longer. The best is judged on the evaluation samples; its recipe is written beside yours as edgepack.tuned.toml, and built into dist/tuned, beside
    tune.html and pareto.csv. Limits are those of [tune] in the recipe; options here replace them. Interrupted, it goes on with the same command: no finished
    trial is lost. Exit code 14: the budget is not met.

    \b
    Examples:
      edgepack tune --max-size "60 kB" --max-drop-points 1.0
      edgepack tune --max-drop-points 0.5 --trials 80 --workers 4
      edgepack tune --max-latency-p50-ms 4 --device ssh://pi@pi4 --time-limit 60
      edgepack tune --max-size "60 kB" --track tensorboard --track mlflow
    """
    invocation.keeps_stages = True
    supervise(invocation)

    from edgepack.cli.terminal import echo_json
    from edgepack.cli.tune_tables import Live, content, show
    from edgepack.core.chatter import chatter_to
    from edgepack.core.errors import BudgetNotMet
    from edgepack.tune import tune as search
    from edgepack.tune.page import write_pages
    from edgepack.tune.search import TRIALS

    limits = {
        "max_size": max_size,
        "max_drop_points": max_drop_points,
        "max_latency_p50_ms": max_latency_p50_ms,
        "max_memory": max_memory,
        "track": track or None,
    }
    read = _limited(recipe, limits)
    started = time.monotonic()
    with ExitStack() as around:
        live = around.enter_context(Live.shown(quiet=quiet))
        if not invocation.debug:  # what libraries print would be among our results; a debugger needs the terminal
            around.enter_context(chatter_to(Path(os.devnull)))
        found = search(
            read,
            target=target,
            folder=_folder(recipe),
            work_folder=work_dir,
            dist_folder=dist_dir,
            device=device,
            trials=trials or TRIALS,
            time_limit_s=None if time_limit is None else 60 * time_limit,
            workers=workers,
            seed=seed,
            progress=live,
            watch=live.watch,
        )
        pages = write_pages(found)
    seconds = round(time.monotonic() - started, 3)
    if as_json:
        echo_json(content(found, pages, seconds))
    else:
        show(found, pages, seconds, quiet=quiet)
    if found.chosen is None:
        raise BudgetNotMet(_nearest_miss(found))


def _limited(recipe: Path, limits: dict[str, Any]) -> Recipe:
    """The recipe with the limits of the command line. Raises UsageError for one that can't be."""
    from pydantic import ValidationError

    from edgepack.core.errors import UsageError
    from edgepack.recipe import TuneSection, load_recipe

    read = load_recipe(recipe)
    given = {name: value for name, value in limits.items() if value is not None}
    if not given:
        return read
    try:
        section = TuneSection.model_validate({**read.tune.model_dump(exclude_unset=True), **given})
    except ValidationError as exc:
        lines = [f"--{str(error['loc'][0]).replace('_', '-')}: {_said(error)}" for error in exc.errors()]
        raise UsageError("; ".join(lines)) from None
    return read.model_copy(update={"tune": section})


def _said(error: Any) -> str:
    message: str = error["msg"].removeprefix("Value error, ")
    return message if ", got " in message else f"{message}, got {error['input']!r}"


def _folder(recipe: Path) -> Path:
    from edgepack.recipe import find_recipe

    return find_recipe(recipe).parent


def _nearest_miss(found: Found) -> str:
    row, numbers = found.nearest
    over = "; ".join(map(str, found.budget.shortfalls(numbers)))
    why = over or next((reason for one, _, reason in found.refused if one is row), "it was not fully trained in time")
    where = "evaluation samples" if found.refused else "the samples that trials are judged on"
    return (
        f"tune: no combination of {len(found.rows)} keeps the budget. The nearest, on {where}: {row.words} ({why}). "
        "Search longer (--trials, --time-limit), raise that limit, or train longer ([[compress]] train of your recipe)"
    )
