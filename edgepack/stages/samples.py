"""The samples of a plan's roles."""

from __future__ import annotations

from edgepack.core.types import Samples, SampleSource
from edgepack.data.samples import SampleSet, open_samples
from edgepack.plan import BuildPlan, Data

_KEPT_IN_MEMORY_BYTES = 256_000_000


def open_role(
    plan: BuildPlan, data: Data, *, classes: int | None = None, labelled: bool = False, first: int | None = None
) -> SampleSet:
    """One role's samples, preprocessed when taken. Raises DataError that names the role and what is wrong."""
    if first is None and "first" in data.fingerprint:  # calibration on a part of the training samples
        first = int(data.fingerprint["first"])
    return open_samples(
        data.section,
        plan.preprocess,
        folder=plan.folder,
        inputs=plan.inputs,
        classes=classes,
        role=data.role,
        labelled=labelled,
        first=first,
    )


def samples_of(plan: BuildPlan, data: Data, *, first: int | None = None) -> Samples:
    """One role's samples, or only the `first` of them, all preprocessed."""
    return open_role(plan, data, first=first).all()


def training_samples(plan: BuildPlan, data: Data) -> SampleSource:
    """Samples to train on: preprocessed once, or, where that would fill the memory, anew for each batch."""
    opened = open_role(plan, data)
    return opened.all() if opened.size_bytes <= _KEPT_IN_MEMORY_BYTES else opened
