"""Channels by measured latency: how much of ResNet-20's time goes away when a recipe asks for a share of it, and how many multiplications that takes.

Nothing is trained but one step, so accuracy is no matter here: the latency hangs on the shapes alone. What a build found while it chose channels (the fastest of many
runs) stands beside interleaved pairs of fresh processes, float narrow ÷ float dense, which is what `edgepack bench --against-float` measures.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.places import EXAMPLES
from edgepack.bench import BenchProtocol
from edgepack.core.errors import RecipeError
from edgepack.opened import bench
from edgepack.pipeline import build
from edgepack.plan import WORK_FOLDER
from edgepack.recipe import CompressStep, DataSection, Recipe, load_recipe

EXAMPLE = EXAMPLES / "resnet20_cifar10"
TARGET = "arm64"  # LiteRT
SHARES = (0.2, 0.3, 0.4, 0.6)  # the last is more than can go
_PROTOCOL = BenchProtocol(repetitions=6, warmup_min_s=0.5, duration_min_s=0.8)
_TRAINING, _JUDGING = 2048, 200  # samples


def run() -> None:
    """Build the example once a share and print a table; a share that can't go is told with the reason."""
    if "EDGEPACK_TEST_DATA" not in os.environ:
        print("left out, EDGEPACK_TEST_DATA is not set")
        return
    table = Table("asked: off the latency", "found while building", "MACs left", "parameters left", "time ÷ dense float's (95 % CI)")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for share in SHARES:
            table.add_row(f"{share:.0%}", *_row(share, Path(folder)))
    Console(width=130).print(table)


def _row(share: float, dist_folder: Path) -> tuple[str, ...]:
    try:
        bundle = build(
            recipe(share), target=TARGET, folder=EXAMPLE, work_folder=EXAMPLE / WORK_FOLDER, dist_folder=dist_folder,
            allow_failed_checks=True,
        )  # fmt: skip
    except RecipeError as exc:
        return (f"refused: {exc}",)
    facts: Any = bundle.variant().lineage["steps"]
    (step,) = facts
    before, after, latency = step["before"], step["after"], step["latency"]
    result = bench(bundle.path, against_float=True, work_folder=EXAMPLE / WORK_FOLDER, protocol=_PROTOCOL)
    ratio = result.comparisons[0].ratio
    interval = "" if ratio.ci95 is None else f" ({ratio.ci95[0]:.3f} … {ratio.ci95[1]:.3f})"
    return (
        f"{1 - latency['ratio']:.1%}, {latency['probes']} networks timed",
        f"{after['macs'] / before['macs']:.1%}",
        f"{after['parameters'] / before['parameters']:.1%}",
        f"{ratio.value:.3f}{interval}, {ratio.pairs} pairs",
    )


def recipe(share: float) -> Recipe:
    """The example's, with nothing done but channels taken off; few samples, as one step of training needs few."""
    example = load_recipe(EXAMPLE / "edgepack.toml")
    step = CompressStep.model_validate(
        {
            "method": "prune_channels",
            "of": "latency",
            "sparsity": share,
            "rounds": 1,
            "round_to": 4,
            "train": {"steps": 1, "batch_size": 64, "holdout": 0.0},
        }
    )
    calibration, evaluation = example.data.calibration, example.data.evaluation
    assert isinstance(calibration, DataSection)
    assert isinstance(evaluation, DataSection)
    data = example.data.model_copy(
        update={
            "train": calibration.model_copy(update={"count": _TRAINING}),
            "evaluation": evaluation.model_copy(update={"count": _JUDGING}),
        }
    )
    bundle = example.bundle.model_copy(update={"name": f"resnet20-{share:.0%}-faster".replace("%", "")})
    return example.model_copy(update={"compress": (step,), "data": data, "bundle": bundle})
