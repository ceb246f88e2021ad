"""The first golden samples before preprocessing, so that an app can prove its own preprocessing."""

from __future__ import annotations

import numpy as np

from edgepack.core.types import Array
from edgepack.data.samples import preprocessed
from edgepack.plan import BuildPlan
from edgepack.runtimes.grid import quantize
from edgepack.stages.described import steps_to_border
from edgepack.stages.export import ExportedModel
from edgepack.stages.samples import open_role
from edgepack.stages.verify import Verification

# One sample proves a preprocessing; more are kept where they are small beside a model.
_FIRST_BYTES_MAX = 4 << 20
_BYTES_MAX = 512 << 10


def raw_golden(plan: BuildPlan, exported: ExportedModel, verification: Verification) -> Array | None:
    """The first evaluation samples as the provider gives them, images decoded: (M, …), M at most the number of golden samples.

    None for a model of several inputs, for samples too large to keep, and where the bundle's steps alone do not lead to the golden input.
    """
    if len(exported.artifact.inputs) != 1:
        return None
    (border,) = exported.artifact.inputs
    golden = verification.golden()[0][border.name]
    opened = open_role(plan, plan.evaluation, labelled=True)
    raw = opened.raw_arrays(1)
    if raw is None or raw.nbytes > _FIRST_BYTES_MAX:
        return None
    raw = opened.raw_arrays(min(len(golden), max(1, _BYTES_MAX // max(1, raw.nbytes))))
    assert raw is not None
    values = preprocessed(raw, steps_to_border(plan, exported))
    grid = border.quantization
    codes = values.astype(border.dtype, copy=False) if grid is None else quantize(values, grid)
    return raw if np.array_equal(codes, golden[: len(raw)]) else None
