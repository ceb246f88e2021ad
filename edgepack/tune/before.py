"""What is asked before the first trial: which layers are sensitive, and what guesses of sizes are measured by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from edgepack.core.errors import EdgepackError
from edgepack.core.files import write_json
from edgepack.core.types import Progress
from edgepack.plan import BuildPlan
from edgepack.recipe import CompressStep
from edgepack.stages.load import Stored, load
from edgepack.stages.samples import samples_of
from edgepack.store.cache import StageCache
from edgepack.tune.guess import SizeGuess, weight_of
from edgepack.tune.measure import Judge
from edgepack.tune.space import SPACE
from edgepack.tune.suggest import Space

_BITS = 4  # what a layer is rounded to alone
_SAMPLES = 64


def informed(space: Space, judge: Judge, rounding: Sequence[CompressStep], progress: Progress) -> Space:
    """The space with the layers' sensitivity and, where the packed size is limited, guesses of it. `rounding` is the combination that only rounds."""
    plan = judge.plan(tuple(rounding))
    cache = StageCache(plan.work_folder)
    loaded = load(plan, cache, progress)
    if space.recipe.tune.sensitive_max and any(SPACE[name].ignores for name in space.methods):
        space = replace(space, sensitive=_sensitive(plan, cache, loaded, progress))
    limit = judge.budget.size_bytes
    if limit is None or judge.budget.size_of != "wire" or not any(SPACE[name].slot == "grid" for name in space.methods):
        return space
    packed = judge.numbers(tuple(rounding), progress).wire_bytes
    with safe_open(loaded.folder / "state.safetensors", framework="numpy") as state:
        tensors = {name: state.get_tensor(name) for name in state.keys()}  # noqa: SIM118  # no mapping
    weights = [weight_of(name, value) for name, value in tensors.items() if value.ndim > 1 and value.dtype.kind == "f"]
    return replace(space, guess=SizeGuess.measured(weights, rounding, packed), aim_bytes=limit)


def _sensitive(plan: BuildPlan, cache: StageCache, loaded: Stored, progress: Progress) -> tuple[str, ...]:
    """Layers by module name, first those that lose most for their size when they alone are rounded to few bits; none where that can't be told."""

    def work(scratch: Path) -> dict[str, Any]:
        from edgepack.network.sensitivity import weight_sensitivity

        model = loaded.open(plan)
        samples = samples_of(plan, plan.calibration, first=_SAMPLES)
        try:
            found = weight_sensitivity(model, samples, bits=_BITS, progress=progress)
        except EdgepackError as exc:
            progress.note(f"tune: layers' sensitivity can't be told, none is left alone for it ({exc})")
            found = ()
        ranked = sorted(found, key=lambda one: -one.output_distance / one.parameters)
        write_json(scratch / "sensitivity.json", [one.weight.removesuffix(".weight") for one in ranked])
        return {"layers": len(ranked)}

    key = plan.key(
        "tune-sensitivity", loaded.key, dict(plan.calibration.fingerprint), list(plan.preprocess), _BITS, _SAMPLES
    )
    folder = cache.run("sensitivity", key, work, progress=progress)
    return tuple(json.loads((folder / "sensitivity.json").read_text(encoding="utf-8")))
