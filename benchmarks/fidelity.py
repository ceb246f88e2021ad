"""What the export keeps and what compression costs, for each example that can run here."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from benchmarks.places import cases, edgepack, measured
from edgepack.bundle import read_bundle
from edgepack.opened import float_artifact
from edgepack.plan import make_plan


def run() -> None:
    """Build (or reuse) every example and print its checks as one table."""
    table = Table(
        "model",
        "samples",
        "agree",
        "mean steps",
        "max",
        "extra ops",
        "float",
        "bundle",
        "drop (95 % CI)",
        "int8 ÷ float bytes",
    )
    for case in cases():
        if case.train is not None:
            measured(sys.executable, str(case.train))
        measured(*edgepack("build", "--recipe", str(case.recipe), "--allow-failed-checks"))
        plan = make_plan(case.recipe)
        bundle = read_bundle(plan.bundle_path)
        checks = {check.name: check for check in bundle.variant().checks}
        metric, drop = bundle.variant().metric, checks["drop_points"]
        original = float_artifact(bundle, work_folder=plan.work_folder)
        assert metric is not None
        assert original is not None
        assert metric.float_value is not None
        interval = f"{drop.ci95[0]:+.2f} … {drop.ci95[1]:+.2f}" if drop.ci95 else ""
        table.add_row(
            case.name,
            str(metric.samples),
            f"{checks['top1_agreement'].value:.2%}",
            f"{checks['mean_steps'].value:.3f}",
            f"{checks['max_steps'].value:.1f}",
            f"{checks['extra_operators'].value:.0f}",
            f"{metric.float_value:.2%}",
            f"{metric.value:.2%}",
            f"{drop.value:+.2f} ({interval})",
            f"{bundle.variant().model.total_bytes / original.size_bytes:.3f}",
        )
    Console(width=160).print(table)
