"""Do the runtimes say the same? The parity table of each example, built for LiteRT, OpenVINO and ONNX Runtime together from one training."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.places import cases, edgepack, measured
from edgepack.cli.tables import parity_tables
from edgepack.targets import target_names

TARGETS = ("arm64", "intel", "x86_64")
AGREEMENT_MIN, POINTS_MAX, MEAN_STEPS_MAX, SAMPLES_MIN = 0.993, 0.3, 0.75, 500


def run() -> None:
    """Build (or reuse) every example for all three and print its tables; at the end, one line a model with its worst pair of runtimes."""
    console = Console(width=170)
    targets = [name for name in TARGETS if name in target_names()]
    flags = [word for name in targets for word in ("--target", name)]
    worst = []
    for case in cases():
        if case.train is not None:
            measured(sys.executable, str(case.train))
        command = edgepack("build", "--recipe", str(case.recipe), *flags, "--allow-failed-checks", "--json")
        parity = json.loads(measured(*command).output)["parity"]
        console.print(f"\n[bold]{case.name}[/]", *parity_tables(parity), sep="\n")
        for name, reason in parity["not_run"].items():
            console.print(f"not run: {name}: {reason}")
        worst.append((case.name, parity["samples"], *figures(parity["pairs"], judged=True), verdict(parity)))
    console.print(summary(worst))


def figures(pairs: Sequence[Mapping[str, Any]], *, judged: bool) -> tuple[float, float, float]:
    """The lowest agreement, the largest difference of the metric in points, and the largest mean difference in output steps, of pairs on one grid."""
    counted = [pair for pair in pairs if pair["same_grid"] and (pair["judged"] or not judged)]
    return (
        min(pair["agreement"] for pair in counted),
        max(abs(pair["metric_difference_points"]) for pair in counted),
        max(pair["mean_steps"] for pair in counted),
    )


def verdict(parity: Mapping[str, Any]) -> str:
    """'pass', or what is outside its limit."""
    agreement, points, steps = figures(parity["pairs"], judged=True)
    misses = [
        name
        for name, fails in (
            ("samples", parity["samples"] < SAMPLES_MIN),
            ("agreement", agreement < AGREEMENT_MIN),
            ("metric", points > POINTS_MAX),
            ("mean steps", steps > MEAN_STEPS_MAX),
        )
        if fails
    ]
    return f"FAIL: {', '.join(misses)}" if misses else "pass"


def summary(worst: Sequence[tuple[Any, ...]]) -> Table:
    """One row a model."""
    table = Table(
        "model",
        "samples",
        f"agreement (≥ {AGREEMENT_MIN:.1%})",
        f"metric, points (≤ {POINTS_MAX})",
        f"mean steps (≤ {MEAN_STEPS_MAX})",
        "verdict",
        title="The worst pair of runtimes of each model",
    )
    for name, samples, agreement, points, steps, word in worst:
        table.add_row(name, f"{samples:,}", f"{agreement:.2%}", f"{points:.2f}", f"{steps:.3f}", word)
    return table
