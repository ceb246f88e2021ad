"""int8 against float in the same runtime: one interleaved run of fresh processes, one thread."""

from __future__ import annotations

from benchmarks.places import cases, edgepack, measured
from edgepack.bench import BenchProtocol
from edgepack.pipeline import bench
from edgepack.plan import make_plan


def run() -> None:
    """Print the ratio of the medians with its interval, and what each row is made of."""
    for case in cases():
        if not case.name.endswith("PTQ"):
            continue
        measured(*edgepack("build", "--recipe", str(case.recipe), "--allow-failed-checks"))
        result = bench(make_plan(case.recipe).bundle_path, against_float=True, protocol=BenchProtocol(repetitions=7))
        for label in ("float", "bundle"):
            row = result.measurement(label)
            peak = "?" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 1e6:.0f} MB"
            print(f"{label:8} p50 {row.p50_ms:.2f} ms   {row.size_bytes:,} bytes   peak memory {peak}")
        ratio = result.comparisons[0].ratio
        interval = f"{ratio.ci95[0]:.3f} … {ratio.ci95[1]:.3f}" if ratio.ci95 else "too few rounds"
        print(
            f"{case.name}: int8 ÷ float time = {ratio.value:.3f} (95 % CI {interval}, {ratio.pairs} interleaved pairs)"
        )
        for warning in result.warnings:
            print(f"  doubt: {warning}")
