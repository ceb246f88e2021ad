"""Compress: the recipe's steps in order, each kept, so that a later step is tried anew without the earlier ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.core.types import Progress, SampleSource
from edgepack.methods.protocol import Context, Method
from edgepack.plan import BuildPlan
from edgepack.stages.load import Stored
from edgepack.stages.samples import samples_of, training_samples
from edgepack.store.cache import StageCache

if TYPE_CHECKING:
    from edgepack.network.model import Model


def compress(plan: BuildPlan, cache: StageCache, loaded: Stored, progress: Progress) -> Stored:
    """The compressed model. Raises what the methods raise, with the step's place in the recipe."""
    current = loaded
    train: SampleSource | None = None
    for name, method in plan.steps:
        key = step_key(plan, current.key, name, method)
        if (folder := cache.find(name, key)) is None:
            if train is None and plan.train is not None and method.needs_training_samples:
                train = training_samples(plan, plan.train)
            folder = cache.run(
                name, key, _work(plan, cache, loaded, current, (name, method), key, train, progress), progress=progress
            )
        current = Stored(key=key, folder=folder, loaded=loaded.folder)
    return current


def step_key(plan: BuildPlan, previous: str, name: str, method: Method) -> str:
    """The key of a compression step after the model with key `previous`."""
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
    )


def _work(
    plan: BuildPlan,
    cache: StageCache,
    loaded: Stored,
    current: Stored,
    step: tuple[str, Method],
    key: str,
    train: SampleSource | None,
    progress: Progress,
) -> Any:
    def work(scratch: Path) -> dict[str, Any]:
        from edgepack.network.model import save_model

        original: Model = loaded.open(plan)
        model = current.open(plan)
        workspace = cache.workspace(key)
        workspace.mkdir(parents=True, exist_ok=True)
        context = Context(
            original=original,
            train=train,
            calibration=samples_of(plan, plan.calibration),
            constraints=plan.constraints,
            workspace=workspace,
            key=key,
            seed=plan.recipe.seed,
            progress=progress,
            base=plan.base,
        )
        compressed = step[1].apply(model, context)
        save_model(compressed, scratch)
        return dict(compressed.lineage[-1]) if compressed.lineage else {}

    return work
