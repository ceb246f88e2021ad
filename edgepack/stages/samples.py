"""The samples of a plan's roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgepack.core.types import Samples, SampleSource
from edgepack.data.samples import SampleSet, open_samples
from edgepack.plan import BuildPlan, Data

_KEPT_IN_MEMORY_BYTES = 256_000_000
_SPLIT = 31  # tells this draw from others by the same seed


def open_role(
    plan: BuildPlan,
    data: Data,
    *,
    classes: int | None = None,
    labelled: bool = False,
    first: int | None = None,
    trains: bool = False,
) -> SampleSet:
    """One role's samples, preprocessed when taken: by the role's own steps, if it has them, only where one `trains` on them. Raises DataError that names the role and what is wrong."""
    if first is None and "first" in data.fingerprint:  # calibration on a part of the training samples
        first = int(data.fingerprint["first"])
    part = data.fingerprint.get("part")
    opened = open_samples(
        data.section,
        data.preprocess if trains and data.preprocess is not None else plan.preprocess,
        folder=plan.folder,
        inputs=plan.inputs,
        classes=classes,
        role=data.role,
        labelled=labelled,
        first=first if part is None else None,
    )
    return opened if part is None else _part(opened, part, first)


def split(data: Data, *, held_out: float, seed: int) -> tuple[Data, Data]:
    """One role's samples as two roles that share none: the rest, and a share that is held out, drawn by `seed`."""
    rest, apart = ({"held_out": held_out, "seed": seed, "is_held_out": is_held_out} for is_held_out in (False, True))
    return (
        replace(data, fingerprint={**data.fingerprint, "part": rest}),
        replace(data, fingerprint={**data.fingerprint, "part": apart}),
    )


def _part(samples: SampleSet, part: Mapping[str, Any], first: int | None) -> SampleSet:
    """The held-out samples, or the others, in the order that they had; only the `first` of them, when given."""
    order = np.random.default_rng([part["seed"], _SPLIT]).permutation(len(samples))
    count = max(1, round(len(samples) * part["held_out"]))
    kept = np.sort(order[:count] if part["is_held_out"] else order[count:])[:first]
    labels = None if samples.labels is None else samples.labels[kept]
    return replace(samples, drawn=samples.drawn[kept], labels=labels)


def samples_of(plan: BuildPlan, data: Data, *, first: int | None = None) -> Samples:
    """One role's samples, or only the `first` of them, all preprocessed."""
    return open_role(plan, data, first=first).all()


def training_samples(plan: BuildPlan, data: Data) -> SampleSource:
    """Samples to train on: preprocessed once, or, where that would fill the memory, anew for each batch."""
    opened = open_role(plan, data, trains=True)
    return opened.all() if opened.size_bytes <= _KEPT_IN_MEMORY_BYTES else opened
