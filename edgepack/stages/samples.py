"""The samples of a plan's roles, preprocessed."""

from __future__ import annotations

from edgepack.core.types import Samples
from edgepack.data.samples import load_samples
from edgepack.plan import CALIBRATION_SAMPLES, BuildPlan, Data


def samples_of(plan: BuildPlan, data: Data, *, classes: int | None = None, labelled: bool = False) -> Samples:
    """Load and preprocess one role's samples. Raises DataError that names the role and what is wrong."""
    samples = load_samples(
        data.section,
        plan.preprocess,
        folder=plan.folder,
        inputs=plan.recipe.model.inputs,
        classes=classes,
        role=data.role,
        labelled=labelled,
    )
    if "first" in data.fingerprint:  # calibration on a part of the training samples
        return samples.take(slice(0, CALIBRATION_SAMPLES))
    return samples
