"""Compress: the recipe's steps in order, each kept, so that a later step is tried anew without the earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.core.types import Progress, SampleSource
from edgepack.methods.protocol import Context, Method, student_of
from edgepack.plan import BuildPlan
from edgepack.stages.export import baseline
from edgepack.stages.latency import LatencyMeter
from edgepack.stages.load import Stored
from edgepack.stages.networks import Networks, known_network_keys, load_networks
from edgepack.stages.samples import samples_of, training_samples
from edgepack.store.cache import StageCache
from edgepack.targets import load_target

if TYPE_CHECKING:
    from edgepack.network.model import Model


def compress(plan: BuildPlan, cache: StageCache, loaded: Stored, progress: Progress) -> Stored:
    """The compressed model. Raises what the methods raise, with the step's place in the recipe."""
    networks = load_networks(plan, cache, loaded, progress)
    current = loaded
    student: Stored | None = None
    train: SampleSource | None = None
    for name, method in plan.steps:
        key = step_key(plan, current.key, name, method, known_network_keys(plan, cache, method) or ())
        if (folder := cache.find(name, key)) is None:
            if train is None and plan.train is not None and method.needs_training_samples:
                train = training_samples(plan, plan.train)
            given = _Given(loaded=loaded, student=student, current=current, networks=networks, train=train)
            folder = cache.run(name, key, _work(plan, cache, given, method, key, progress), progress=progress)
        current = Stored(key=key, folder=folder, loaded=loaded.folder)
        student = student if student_of(method) is None else current
    return current


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What a step begins with: the original, the trained student where there is one, the model as it is, and who may teach it."""

    loaded: Stored
    student: Stored | None
    current: Stored
    networks: Networks
    train: SampleSource | None


def step_key(plan: BuildPlan, previous: str, name: str, method: Method, networks: Sequence[str] = ()) -> str:
    """The key of a compression step after the model with key `previous`; `networks` are the keys of those that it names."""
    train = plan.train.fingerprint if plan.train is not None and method.needs_training_samples else None
    return plan.key(
        "compress",
        previous,
        name,
        method.model_dump(mode="json"),
        dict(train) if train is not None else None,
        dict(plan.calibration.fingerprint),
        list(plan.preprocess),
        plan.constraints.model_dump(mode="json"),
        plan.recipe.seed,
        None if plan.base is None else [plan.base.sha256, plan.base.tolerance],
        list(networks),
        *_measured_on(plan, method),
    )


def _measured_on(plan: BuildPlan, method: Method) -> list[Any]:
    """What a step depends on that asks for latencies: the first target of its group, where they are measured for all of them."""
    if not getattr(method, "needs_latency", False):
        return []
    first = plan.grid_targets[0]
    profile = plan.target if first == plan.target_name else load_target(first, plan.folder)
    return [first, profile.model_dump(mode="json"), plan.recipe.export.model_dump(mode="json")]


def _meter(
    plan: BuildPlan, cache: StageCache, loaded: Stored, method: Method, workspace: Path, progress: Progress
) -> LatencyMeter | None:
    if not getattr(method, "needs_latency", False):
        return None
    original = baseline(plan, cache, loaded, progress)
    return LatencyMeter(plan, original.artifact, workspace, progress)


def _work(plan: BuildPlan, cache: StageCache, given: _Given, method: Method, key: str, progress: Progress) -> Any:
    def work(scratch: Path) -> dict[str, Any]:
        from edgepack.network.model import save_model

        original: Model = given.loaded.open(plan)
        model = given.current.open(plan)
        workspace = cache.workspace(key)
        workspace.mkdir(parents=True, exist_ok=True)
        context = Context(
            original=original,
            train=given.train,
            calibration=samples_of(plan, plan.calibration),
            constraints=plan.constraints,
            workspace=workspace,
            key=key,
            seed=plan.recipe.seed,
            progress=progress,
            base=plan.base,
            student=None if given.student is None else given.student.open(plan),
            network=lambda section: given.networks.of(section).open(plan),
            latency=_meter(plan, cache, given.loaded, method, workspace, progress),
        )
        compressed = method.apply(model, context)
        save_model(compressed, scratch)
        return dict(compressed.lineage[-1]) if compressed.lineage else {}

    return work
