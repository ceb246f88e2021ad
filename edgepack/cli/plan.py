"""`edgepack plan`: everything that can be known about a build before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import FOLDER, complete_target, json_option, recipe_option, work_dir_option

if TYPE_CHECKING:
    from edgepack.plan import BuildPlan, Data


@click.command()
@recipe_option
@click.option("-t", "--target", metavar="NAME", shell_complete=complete_target, help="Kind of device to plan for.")
@work_dir_option(".edgepack beside the recipe")
@click.option("--dist-dir", type=FOLDER, show_default="dist beside the recipe", help="Folder for finished bundles.")
@json_option
def plan(*, recipe: Path, target: str | None, work_dir: Path | None, dist_dir: Path | None, as_json: bool) -> None:
    """Check a recipe and show what a build would do.

    Resolves every name, decodes every option and reads every file, as a build does before its first stage, and shows the checksums
    of the data to put into the recipe.

    \b
    Examples:
      edgepack plan
      edgepack plan --recipe examples/digits --json
    """
    from edgepack.cli.terminal import echo_json
    from edgepack.plan import make_plan

    made = make_plan(recipe, target=target, work_folder=work_dir, dist_folder=dist_dir)
    if as_json:
        echo_json(_content(made))
    else:
        _show(made)


def _roles(plan: BuildPlan) -> list[Data]:
    return [data for data in (plan.train, plan.calibration, plan.evaluation) if data is not None]


def _content(plan: BuildPlan) -> dict[str, Any]:
    return {
        "recipe": str(plan.recipe_file),
        "target": plan.target_name,
        "bundle": str(plan.bundle_path),
        "work_folder": str(plan.work_folder),
        "threads": plan.threads,
        "seed": plan.recipe.seed,
        "compress": [{"method": name, **step.model_dump(mode="json")} for name, step in plan.steps],
        "preprocess": list(plan.preprocess),
        "data": {data.role: dict(data.fingerprint) for data in _roles(plan)},
        "budget": plan.recipe.budget.model_dump(mode="json"),
        "fidelity": plan.recipe.fidelity.model_dump(mode="json"),
    }


def _show(plan: BuildPlan) -> None:
    from rich.markup import escape

    from edgepack.cli.tables import facts, plain_table
    from edgepack.cli.terminal import draw, shown

    draw(
        facts(
            [
                ("recipe", escape(shown(plan.recipe_file))),
                ("target", escape(f"{plan.target_name}: {plan.target.description}")),
                ("preprocess", escape(", ".join(str(step["op"]) for step in plan.preprocess)) or "none"),
                *((f"compress {n}", escape(_step(*step))) for n, step in enumerate(plan.steps, 1)),
                ("threads", str(plan.threads)),
                ("work folder", escape(shown(plan.work_folder))),
                ("bundle", escape(shown(plan.bundle_path))),
            ]
        ),
        plain_table(
            "", {"data": "left", "provider": "left", "count": "right", "sha256": "left"}, map(_row, _roles(plan))
        ),
    )


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
