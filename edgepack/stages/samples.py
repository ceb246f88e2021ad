"""The samples of a plan's roles, preprocessed."""

from __future__ import annotations

from collections.abc import Iterator

from edgepack.core.types import Samples
from edgepack.data.samples import iter_samples, load_samples
from edgepack.plan import BuildPlan, Data


def samples_of(
    plan: BuildPlan, data: Data, *, classes: int | None = None, labelled: bool = False, first: int | None = None
) -> Samples:
    """Load and preprocess one role's samples, or only the `first` of them. Raises DataError that names the role and what is wrong."""
    if first is None and "first" in data.fingerprint:  # calibration on a part of the training samples
        first = int(data.fingerprint["first"])
    return load_samples(
        data.section,
        plan.preprocess,
        folder=plan.folder,
        inputs=plan.recipe.model.inputs,
        classes=classes,
        role=data.role,
        labelled=labelled,
        first=first,
    )


def chunks_of(plan: BuildPlan, data: Data, *, classes: int | None, chunk: int) -> Iterator[Samples]:
    """One role's labelled samples, `chunk` at a time."""
    return iter_samples(
        data.section,
        plan.preprocess,
        folder=plan.folder,
        inputs=plan.recipe.model.inputs,
        classes=classes,
        role=data.role,
        labelled=True,
        chunk=chunk,
    )
