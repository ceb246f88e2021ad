"""The examples' compressed recipes: what each costs in points, and what it saves in bytes and milliseconds.

Every recipe is built (or found built) for one target, and its file is packed for the wire as `edgepack pack` does. The latency is that of the file over the float
model's in LiteRT, interleaved, one thread; `EDGEPACK_BENCHMARK_ONLY` takes the recipes whose name holds a text.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.places import EXAMPLES, edgepack, measured
from edgepack.bench import BenchProtocol
from edgepack.bundle import read_bundle
from edgepack.codec.wire_write import pack_wire
from edgepack.opened import bench
from edgepack.plan import make_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A recipe in examples/, and what issue 6 asks of it: points lost, time over the float model's, bytes over those of another recipe's file."""

    recipe: str
    drop_points_max: float | None = None
    top1_min: float | None = None
    latency_ratio_max: float | None = None
    bytes_ratio_max: float | None = None
    against: str | None = None


ROWS = (
    Row(recipe="resnet20_cifar10/edgepack.toml"),
    Row(recipe="resnet20_cifar10/channels.toml", drop_points_max=2.0, latency_ratio_max=0.35),
    Row(recipe="resnet20_cifar10/sparse.toml", drop_points_max=1.0),
    Row(recipe="resnet20_cifar10/low_rank.toml"),
    Row(recipe="resnet20_cifar10/palettize.toml"),
    Row(recipe="ds_cnn/edgepack.toml"),
    Row(recipe="ds_cnn/half.toml", top1_min=0.9, bytes_ratio_max=0.5, against="ds_cnn/edgepack.toml"),
    Row(recipe="efficientnet_lite0/edgepack.toml"),
    Row(recipe="efficientnet_lite0/channels.toml", drop_points_max=3.0, latency_ratio_max=0.33),
    Row(
        recipe="efficientnet_lite0/int4.toml",
        drop_points_max=1.5,
        bytes_ratio_max=0.65,
        against="efficientnet_lite0/edgepack.toml",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a built recipe is. `ci95` is of `drop_points`."""

    float_top1: float
    top1: float
    drop_points: float
    ci95: tuple[float, float] | None
    file_bytes: int
    packed_bytes: int
    latency_ratio: float
    latency_ci95: tuple[float, float] | None


def run() -> None:
    """Build what isn't built, and print a table with each goal beside what was found."""
    if "EDGEPACK_TEST_DATA" not in os.environ:
        print("left out, EDGEPACK_TEST_DATA is not set")
        return
    only = os.environ.get("EDGEPACK_BENCHMARK_ONLY", "")
    rows = [row for row in ROWS if only in row.recipe]
    if not rows:
        return
    found = {row.recipe: _found(row.recipe) for row in rows}
    table = Table("recipe", "top-1, float → file", "points lost (95 % CI)", "file, kB", "packed, kB", "time ÷ float's", "goals")  # fmt: skip
    for row in rows:
        one = found[row.recipe]
        interval = "" if one.ci95 is None else f" ({one.ci95[0]:+.2f} … {one.ci95[1]:+.2f})"
        spread = "" if one.latency_ci95 is None else f" ({one.latency_ci95[0]:.3f} … {one.latency_ci95[1]:.3f})"
        table.add_row(
            row.recipe,
            f"{one.float_top1:.2%} → {one.top1:.2%}",
            f"{one.drop_points:+.2f}{interval}",
            f"{one.file_bytes / 1000:,.1f}",
            f"{one.packed_bytes / 1000:,.1f}",
            f"{one.latency_ratio:.3f}{spread}",
            "\n".join(_goals(row, one, found.get(row.against or ""))),
        )
    Console(width=170).print(table)


def _found(recipe: str) -> Found:
    """Build a recipe for its first target and measure it."""
    measured(*edgepack("build", "--recipe", str(EXAMPLES / recipe), "--allow-failed-checks"))
    plan = make_plan(EXAMPLES / recipe)
    bundle = read_bundle(plan.bundle_path)
    variant = bundle.variant()
    metric, drop = variant.metric, {check.name: check for check in variant.checks}["drop_points"]
    assert metric is not None
    assert metric.float_value is not None
    ratio = bench(plan.bundle_path, against_float=True, protocol=BenchProtocol(repetitions=7)).comparisons[0].ratio
    return Found(
        float_top1=metric.float_value,
        top1=metric.value,
        drop_points=drop.value,
        ci95=drop.ci95,
        file_bytes=variant.model.total_bytes,
        packed_bytes=len(pack_wire(bundle.read(variant.model.path), variant.model.path).wire),
        latency_ratio=ratio.value,
        latency_ci95=ratio.ci95,
    )


def _goals(row: Row, found: Found, other: Found | None) -> list[str]:
    """Each goal of a row, and whether it is met."""
    goals = []
    if row.drop_points_max is not None:
        goals.append((f"≤ {row.drop_points_max} points", found.drop_points <= row.drop_points_max))
    if row.top1_min is not None:
        goals.append((f"top-1 ≥ {row.top1_min:.0%}", found.top1 >= row.top1_min))
    if row.latency_ratio_max is not None:
        goals.append((f"time ≤ {row.latency_ratio_max}", found.latency_ratio <= row.latency_ratio_max))
    if row.bytes_ratio_max is not None and other is not None:
        ratio = found.file_bytes / other.file_bytes
        goals.append((f"bytes ≤ {row.bytes_ratio_max} ({ratio:.3f})", ratio <= row.bytes_ratio_max))
    return [f"{text}: {'met' if met else 'MISSED'}" for text, met in goals]
