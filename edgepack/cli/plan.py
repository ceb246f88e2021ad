"""`edgepack plan`: everything that can be known about a build before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import FOLDER, complete_target, json_option, recipe_option, work_dir_option

if TYPE_CHECKING:
    from edgepack.plan import BuildPlan, Data
    from edgepack.stages.outline import StageOutline


@click.command()
@recipe_option
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_target,
    help="Kind of device to plan for; may be given several times.  [default: `targets` of the recipe]",
)
@work_dir_option(".edgepack beside the recipe")
@click.option("--dist-dir", type=FOLDER, show_default="dist beside the recipe", help="Folder for finished bundles.")
@json_option
def plan(
    *, recipe: Path, targets: tuple[str, ...], work_dir: Path | None, dist_dir: Path | None, as_json: bool
) -> None:
    """Check a recipe and show what a build would do.

    Resolves every name, decodes every option and reads every file, as a build does before its first stage. Shows which targets share
    one training, which stages are done and how long the others took the last time, and the checksums of the data to put into the recipe.

    \b
    Examples:
      edgepack plan
      edgepack plan --target arm64 --target intel
      edgepack plan --recipe examples/digits --json
    """
    from edgepack.cli.terminal import echo_json
    from edgepack.plan import make_plans
    from edgepack.stages.outline import outline
    from edgepack.store.cache import StageCache

    plans = make_plans(recipe, targets=targets or None, work_folder=work_dir, dist_folder=dist_dir)
    stages = outline(plans, StageCache(plans[0].work_folder))
    if as_json:
        echo_json(_content(plans, stages))
    else:
        _show(plans, stages)


def _roles(plan: BuildPlan) -> list[Data]:
    return [data for data in (plan.train, plan.calibration, plan.evaluation) if data is not None]


def _content(plans: Sequence[BuildPlan], stages: Sequence[StageOutline]) -> dict[str, Any]:
    plan = plans[0]
    return {
        "recipe": str(plan.recipe_file),
        "targets": [
            {
                "target": one.target_name,
                "bundle": str(one.bundle_path),
                "grid_shared_with": [name for name in one.grid_targets if name != one.target_name],
                "apart_because": one.apart_because or None,
            }
            for one in plans
        ],
        "work_folder": str(plan.work_folder),
        "threads": plan.threads,
        "seed": plan.recipe.seed,
        "compress": [{"method": name, **step.model_dump(mode="json")} for name, step in plan.steps],
        "stages": [asdict(stage) for stage in stages],
        "preprocess": list(plan.preprocess),
        "data": {data.role: dict(data.fingerprint) for data in _roles(plan)},
        "budget": plan.recipe.budget.model_dump(mode="json"),
        "fidelity": plan.recipe.fidelity.model_dump(mode="json"),
        "parity": plan.recipe.parity.model_dump(mode="json"),
    }


def _show(plans: Sequence[BuildPlan], stages: Sequence[StageOutline]) -> None:
    from rich.markup import escape

    from edgepack.cli.tables import facts, outline_table, plain_table
    from edgepack.cli.terminal import draw, shown

    plan = plans[0]
    draw(
        facts(
            [
                ("recipe", escape(shown(plan.recipe_file))),
                *(("target", escape(f"{one.target_name}: {one.target.description}")) for one in plans),
                *(("training", escape(line)) for line in _trainings(plans)),
                ("preprocess", escape(", ".join(str(step["op"]) for step in plan.preprocess)) or "none"),
                *((f"compress {n}", escape(_step(*step))) for n, step in enumerate(plan.steps, 1)),
                ("threads", str(plan.threads)),
                ("work folder", escape(shown(plan.work_folder))),
                *(("bundle", escape(shown(one.bundle_path))) for one in plans),
            ]
        ),
        outline_table(stages),
        plain_table(
            "", {"data": "left", "provider": "left", "count": "right", "sha256": "left"}, map(_row, _roles(plan))
        ),
    )


def _trainings(plans: Sequence[BuildPlan]) -> list[str]:
    """Which targets are compressed together; nothing to say for one target, or for a recipe without steps."""
    if len(plans) < 2 or not plans[0].steps:
        return []
    groups = dict.fromkeys((plan.grid_targets, plan.apart_because) for plan in plans)
    return [f"once for {', '.join(targets)}" + (f" (apart: {reason})" if reason else "") for targets, reason in groups]


def _step(name: str, method: Any) -> str:
    options = method.model_dump(mode="json", exclude_none=True)
    return f"{name} ({', '.join(f'{key} {_option(value)}' for key, value in options.items() if value != [])})"


def _option(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {inner}" for key, inner in value.items() if inner != []) + ")"
    return str(value)


def _row(data: Data) -> tuple[str, str, str, str]:
    count = data.fingerprint["count"]
    return (
        data.role,
        str(data.fingerprint["provider"]),
        "all" if count is None else f"{count:,}",
        str(data.fingerprint["sha256"]),
    )
