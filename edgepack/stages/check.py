"""Check: do samples, labels and metric fit the model? Asked before any training, since the answers need no trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.core.types import Progress
from edgepack.methods.protocol import trainings_of
from edgepack.plan import BuildPlan
from edgepack.stages.export import ExportedModel
from edgepack.stages.samples import open_role
from edgepack.store.cache import StageCache


def check(plan: BuildPlan, cache: StageCache, original: ExportedModel, progress: Progress) -> None:
    """Every label, and one sample of each role. Raises DataError or RecipeError."""
    outputs = {item.name: item for item in original.artifact.outputs}
    judged = plan.recipe.metric.output or original.artifact.outputs[0].name
    if judged not in outputs:
        raise RecipeError(f"metric.output: the model has no output '{judged}'{did_you_mean(judged, outputs)}")
    shape = outputs[judged].shape
    classes = shape[-1] if len(shape) == 2 else None
    if plan.labels and classes is not None and len(plan.labels) != classes:
        raise RecipeError(f"bundle.labels: {len(plan.labels)} names for {classes} classes; give one name per class")
    learns_labels = any(train.needs_labels for _, method in plan.steps for train in trainings_of(method).values())
    roles = [data for data in (plan.train, plan.calibration) if data is not None]
    key = plan.key(
        "check",
        [dict(data.fingerprint) for data in (*roles, plan.evaluation)],
        list(plan.preprocess),
        [item.model_dump(mode="json") for item in plan.inputs],
        classes,
        learns_labels,
    )

    def work(scratch: Path) -> dict[str, Any]:
        progress.start("Checking the samples")
        for data in roles:
            trains = data is plan.train
            wanted = learns_labels and trains
            open_role(plan, data, classes=classes if wanted else None, labelled=wanted, first=1, trains=trains).all()
        open_role(plan, plan.evaluation, classes=classes, labelled=True, first=1).all()
        progress.done()
        return {}

    cache.run("check", key, work, progress=progress)
