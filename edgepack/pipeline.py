"""The build, top to bottom: the table of contents.

    plan ─► load ─► baseline ─► check ─► compress ─► export ─► evaluate ─► verify ─► parity ─► bundle

Each verb is a file in `stages/`, each result is kept in `.edgepack/` by the digest of what it depends on, and each is made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.bench import BenchModel, BenchProtocol, bench
from edgepack.bundle import Bundle
from edgepack.core.errors import CheckFailed, EnvironmentProblem
from edgepack.core.files import write_json
from edgepack.core.types import Check, Progress, Silent
from edgepack.devices import TRANSPORTS
from edgepack.plan import BuildPlan, make_plans
from edgepack.recipe import Recipe, load_recipe
from edgepack.stages.bundle import bundle as bundle_stage
from edgepack.stages.check import check
from edgepack.stages.compress import compress
from edgepack.stages.evaluate import evaluate
from edgepack.stages.export import ExportedModel, adopt, baseline, export
from edgepack.stages.load import Stored, load, refuse_other_base
from edgepack.stages.networks import load_networks
from edgepack.stages.parity import Parity, parity
from edgepack.stages.verify import Verification, failure_report
from edgepack.stages.verify import verify as verify_stage
from edgepack.store.cache import StageCache


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What a build made: a bundle for each target, and how their runtimes compare."""

    bundles: tuple[Bundle, ...]
    parity: Parity


def build(
    recipe: Recipe | Path,
    *,
    target: str | None = None,
    folder: Path | None = None,
    work_folder: Path | None = None,
    dist_folder: Path | None = None,
    allow_failed_checks: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Compress, export, verify and bundle a trained model for one target: `build_all` for `target`, or for the first of the recipe."""
    chosen = (target,) if target is not None else (_recipe_of(recipe).targets[0],)
    return build_all(
        recipe,
        targets=chosen,
        folder=folder,
        work_folder=work_folder,
        dist_folder=dist_folder,
        allow_failed_checks=allow_failed_checks,
        progress=progress,
    ).bundles[0]


def build_all(
    recipe: Recipe | Path,
    *,
    targets: Sequence[str] | None = None,
    folder: Path | None = None,
    work_folder: Path | None = None,
    dist_folder: Path | None = None,
    allow_failed_checks: bool = False,
    progress: Progress | None = None,
) -> BuildResult:
    """Compress once for each grid, export and verify for each target, compare the runtimes and bundle. Finished stages are reused.

    `recipe` is edgepack.toml, a folder that holds one, or a Recipe made in Python; `folder` is what its paths are relative to; `targets` are the
    recipe's by default. Raises an EdgepackError of `core.errors`; CheckFailed when a check fails and `allow_failed_checks` is not set.
    """
    progress = progress or Silent()
    plans = make_plans(
        recipe,
        targets=targets,
        folder=folder,
        work_folder=work_folder,
        dist_folder=dist_folder,
        allow_failed_checks=allow_failed_checks,
    )
    cache = StageCache(plans[0].work_folder)
    made = _adopt(plans, cache, progress) if plans[0].source.abilities.finished else _make(plans, cache, progress)
    exported = [one.exported for one in made]
    compressed = [one.compressed for one in made]
    loaded = made[0].loaded
    evaluated = evaluate(plans, cache, loaded, compressed, exported, progress)
    verifications = [
        verify_stage(plan, cache, network, artifact, outputs, _measure(plan, cache, artifact, progress), progress)
        for plan, network, artifact, outputs in zip(plans, compressed, exported, evaluated, strict=True)
    ]
    compared = parity(plans, cache, exported, evaluated, progress)
    _stop_if_failed(plans, verifications, compared)
    bundles = [
        bundle_stage(plan, cache, loaded, one.original, one.exported, verification, compared, progress)
        for plan, one, verification in zip(plans, made, verifications, strict=True)
    ]
    for plan in plans:
        _failed_report(plan).unlink(missing_ok=True)  # of an earlier try
    return BuildResult(bundles=tuple(bundles), parity=compared)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What is judged for one target. A finished model has an artifact only."""

    exported: ExportedModel
    loaded: Stored | None = None
    original: ExportedModel | None = None
    compressed: Stored | None = None


def _make(plans: Sequence[BuildPlan], cache: StageCache, progress: Progress) -> list[_Made]:
    """Load and check for all targets first, then compress and export."""
    loaded = load(plans[0], cache, progress)
    student = load_networks(plans[0], cache, loaded, progress).student
    refuse_other_base(plans, student or loaded)
    originals = [baseline(plan, cache, loaded, progress) for plan in plans]
    for plan, original in zip(plans, originals, strict=True):
        check(plan, cache, original, progress)
        if student is not None:
            baseline(plan, cache, student, progress, is_student=True)
    compressed = [compress(plan, cache, loaded, progress) for plan in plans]
    return [
        _Made(exported=export(plan, cache, network, progress), loaded=loaded, original=original, compressed=network)
        for plan, original, network in zip(plans, originals, compressed, strict=True)
    ]


def _adopt(plans: Sequence[BuildPlan], cache: StageCache, progress: Progress) -> list[_Made]:
    """A finished model as it is."""
    made = [_Made(exported=adopt(plan, cache, progress)) for plan in plans]
    for plan, one in zip(plans, made, strict=True):
        check(plan, cache, one.exported, progress)
    return made


def _recipe_of(recipe: Recipe | Path) -> Recipe:
    return load_recipe(recipe) if isinstance(recipe, Path) else recipe


def _measure(plan: BuildPlan, cache: StageCache, exported: ExportedModel, progress: Progress) -> tuple[Check, ...]:
    """The budget's latency and memory, measured on this machine when the recipe limits them."""
    budget = plan.recipe.budget
    if budget.latency_p50_ms is None and budget.peak_memory_bytes is None:
        return ()
    artifact = exported.artifact
    key = plan.key("measure", exported.key, plan.target.limits.model_dump(mode="json"))

    def work(scratch: Path) -> dict[str, float]:
        model = BenchModel(
            label="bundle",
            path=artifact.path,
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            companions=artifact.companions,
            runtime=plan.target.runtime,
            runtime_options=plan.runtime.model_dump(mode="json"),
        )
        with TRANSPORTS.load("local")() as device:
            result = bench(
                [model], device=device, protocol=BenchProtocol(threads=plan.target.limits.threads), progress=progress
            )
        write_json(scratch / "bench.json", result.as_dict())
        found = result.measurement("bundle")
        if found.peak_memory_bytes is None:
            raise EnvironmentProblem(
                "budget.peak_memory_bytes: this machine can't tell a process's peak memory; leave that limit out here"
            )
        assert found.p50_ms is not None  # this machine counts time
        interval = found.p50_ci95_ms or (found.p50_ms, found.p50_ms)
        return {
            "p50_ms": found.p50_ms,
            "low_ms": interval[0],
            "high_ms": interval[1],
            "peak_memory_bytes": float(found.peak_memory_bytes),
        }

    facts = cache.facts(cache.run("measure", key, work, progress=progress))
    checks: list[Check] = []
    if budget.latency_p50_ms is not None:
        checks.append(
            Check(
                kind="budget",
                name="latency_p50_ms",
                value=facts["p50_ms"],
                limit=budget.latency_p50_ms,
                direction="max",
                ci95=(facts["low_ms"], facts["high_ms"]),
                method="median of run medians on the machine that built it; t interval over runs",
            )
        )
    if budget.peak_memory_bytes is not None:
        checks.append(
            Check(
                kind="budget",
                name="peak_memory_bytes",
                value=facts["peak_memory_bytes"],
                limit=float(budget.peak_memory_bytes),
                direction="max",
                method="largest peak resident memory of a process on the machine that built it",
            )
        )
    return tuple(checks)


def _stop_if_failed(plans: Sequence[BuildPlan], verifications: Sequence[Verification], compared: Parity) -> None:
    failed = [(plan, found) for plan, found in zip(plans, verifications, strict=True) if not found.passed]
    apart = [check for check in compared.checks if not check.passed]
    if (not failed and not apart) or plans[0].allow_failed_checks:
        return
    lines = []
    for plan, found in failed:
        report = _failed_report(plan)
        write_json(
            report,
            {
                "checks": [check.as_dict() for check in (*found.checks, *compared.checks)],
                "layers": [layer.as_dict() for layer in found.layers],
            },
        )
        lines += [f"{plan.target_name}: {failure_report(found)}", f"The full report is in {report}."]
    for one in apart:
        relation = "above" if one.direction == "max" else "below"
        lines.append(
            f"parity: {one.name} = {one.value:.6g} is {relation} its limit {one.limit:.6g} ({one.method}); "
            "build with --allow-failed-checks and see where they part with: edgepack diff BUNDLE BUNDLE"
        )
    lines.append("Nothing was bundled; --allow-failed-checks bundles it marked as failed.")
    raise CheckFailed("\n".join(lines), parity=compared.file)


def _failed_report(plan: BuildPlan) -> Path:
    return plan.dist_folder / f"{plan.bundle_path.stem}.failed.json"
