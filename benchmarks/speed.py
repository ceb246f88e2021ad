"""int8 against float in the same runtime: one interleaved run of fresh processes, one thread."""

from __future__ import annotations

from benchmarks.places import cases, edgepack, measured
from edgepack.bench import BenchProtocol, BenchResult
from edgepack.opened import bench
from edgepack.plan import make_plan
from edgepack.targets import target_names

# The targets whose runtimes are measured, with the largest time of int8 ÷ float that is good enough.
GOALS = {"arm64": 0.50, "intel": 0.40, "x86_64": 0.50}


def run() -> None:
    """Print, for each runtime, the ratio of the medians with its interval, and what each row is made of."""
    targets = [name for name in GOALS if name in target_names()]
    for case in cases():
        if not case.name.startswith("efficientnet_lite0 PTQ"):
            continue
        flags = [word for name in targets for word in ("--target", name)]
        measured(*edgepack("build", "--recipe", str(case.recipe), *flags, "--allow-failed-checks"))
        for name in targets:
            plan = make_plan(case.recipe, target=name)
            result = bench(plan.bundle_path, against_float=True, protocol=BenchProtocol(repetitions=7))
            show(f"{case.name}, {plan.target.runtime}", result, GOALS[name])


def show(title: str, result: BenchResult, goal: float) -> None:
    """Both rows, the ratio and whatever makes it doubtful."""
    print(f"{title}:")
    for label in ("float", "bundle"):
        row = result.measurement(label)
        ran = result.reports(label)[0].execution
        types = " ".join(f"{kind}×{count}" for kind, count in ran.types.items())
        print(
            f"  {label:8} p50 {row.p50_ms:.2f} ms   {row.size_bytes:,} bytes   peak memory {row.peak_memory_bytes / 1e6:.0f} MB   {ran.device} {types}"
        )
    ratio = result.comparisons[0].ratio
    interval = f"{ratio.ci95[0]:.3f} … {ratio.ci95[1]:.3f}" if ratio.ci95 else "too few rounds"
    verdict = "within" if ratio.value <= goal else "ABOVE"
    print(
        f"  int8 ÷ float time = {ratio.value:.3f} (95 % CI {interval}, {ratio.pairs} interleaved pairs), {verdict} {goal}"
    )
    for warning in result.warnings:
        print(f"  doubt: {warning}")
