"""Verify: is the export faithful, is the compression affordable, does it fit the budget? Each a number against a limit.

The three are asked apart because their cures differ. All are asked of the very file that ships, on the same samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.core.files import write_json
from edgepack.core.types import Array, Check, Progress, Signature
from edgepack.plan import BuildPlan
from edgepack.runtimes.grid import quantize
from edgepack.stages.divergence import LayerDifference, compare, first_divergence
from edgepack.stages.evaluate import Evaluated, border
from edgepack.stages.export import ExportedModel
from edgepack.stages.judge import judge, steps_apart
from edgepack.stages.load import Stored
from edgepack.stages.samples import open_role
from edgepack.store.cache import StageCache

# Enough to prove an integration; fewer where samples are large beside a model, for every user of the bundle downloads them.
GOLDEN_SAMPLES_MAX = 8
GOLDEN_BYTES_MAX = 512 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found. `accuracy` has the metric of the original ('float'), the compressed network ('compressed') and the artifact
    ('artifact'), `also` the same for each further metric; `layers` compares tensors in execution order; golden inputs and outputs are arrays of the artifact's own types."""

    key: str
    folder: Path
    checks: tuple[Check, ...]
    accuracy: Mapping[str, float]
    accuracy_ci95: tuple[float, float]
    also: Mapping[str, Mapping[str, float]]
    samples: int
    layers: tuple[LayerDifference, ...]
    notes: tuple[str, ...]
    output_steps: tuple[float | None, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def golden(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Golden inputs and outputs by name."""
        with np.load(self.folder / "golden.npz", allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        return (
            {name.removeprefix("in:"): array for name, array in arrays.items() if name.startswith("in:")},
            {name.removeprefix("out:"): array for name, array in arrays.items() if name.startswith("out:")},
        )


def verify(
    plan: BuildPlan,
    cache: StageCache,
    compressed: Stored | None,
    exported: ExportedModel,
    evaluated: Evaluated,
    measured: tuple[Check, ...],
    progress: Progress,
) -> Verification:
    """Judge the outputs, compare layer by layer and record golden samples. `measured` are checks made on a device."""
    recipe = plan.recipe
    layers = compare(plan, cache, compressed, exported, progress)
    key = plan.key(
        "verify",
        exported.key,
        evaluated.key,
        layers.key,
        recipe.metric.model_dump(mode="json"),
        recipe.fidelity.model_dump(mode="json"),
        recipe.budget.model_dump(mode="json"),
        [check.as_dict() for check in measured],
        plan.target.limits.threads,
        _golden_count(exported.artifact.inputs),
    )

    def work(scratch: Path) -> dict[str, Any]:
        labels = open_role(plan, plan.evaluation, labelled=True).labels
        assert labels is not None
        found = judge(plan, exported, evaluated, labels)
        golden = _write_golden(plan, exported, scratch)
        checks = (*found.checks, *_batch_check(plan, exported, evaluated, golden), *measured)
        write_json(
            scratch / "verify.json",
            {
                "checks": [check.as_dict() for check in checks],
                "accuracy": dict(found.accuracy),
                "accuracy_ci95": list(found.accuracy_ci95),
                "also": {name: dict(values) for name, values in found.also.items()},
                "metric": recipe.metric.name,
                "samples": found.samples,
                "output_steps": [evaluated.step(item.name) for item in exported.artifact.outputs],
                "execution": evaluated.artifact.facts["execution"],
                "layers": [layer.as_dict() for layer in layers.layers],
                "notes": [*exported.notes, *evaluated.artifact.facts["execution"]["notes"]],
            },
        )
        return {"passed": all(check.passed for check in checks), "samples": found.samples}

    return _read(key, cache.run("verify", key, work, progress=progress))


def _write_golden(plan: BuildPlan, exported: ExportedModel, folder: Path) -> dict[str, Array]:
    """The first samples as codes or values of the artifact's own types, and what the artifact answers."""
    artifact = exported.artifact
    samples = open_role(plan, plan.evaluation, labelled=True, first=_golden_count(artifact.inputs)).all()
    values = border(plan, artifact.inputs, samples)
    inputs = {
        item.name: values[item.name].astype(item.dtype, copy=False)
        if item.quantization is None
        else quantize(values[item.name], item.quantization)
        for item in artifact.inputs
    }
    outputs = plan.runtime.open(artifact.path, threads=plan.target.limits.threads).run(inputs)
    arrays = {
        **{f"in:{name}": array for name, array in inputs.items()},
        **{f"out:{name}": array for name, array in outputs.items()},
    }
    np.savez(folder / "golden.npz", **arrays)  # type: ignore[arg-type]
    return inputs


def _golden_count(inputs: Sequence[Signature]) -> int:
    """How many golden samples a bundle has: two at least, as a batch is compared with its samples alone."""
    sample_bytes = sum(prod(item.shape[1:]) * np.dtype(item.dtype).itemsize for item in inputs)
    return max(2, min(GOLDEN_SAMPLES_MAX, GOLDEN_BYTES_MAX // max(1, sample_bytes)))


def _batch_check(
    plan: BuildPlan, exported: ExportedModel, evaluated: Evaluated, inputs: Mapping[str, Array]
) -> list[Check]:
    """Whether a model that takes any number of samples answers a whole batch as it answers each sample alone."""
    if not plan.recipe.export.dynamic_batch:
        return []
    session = plan.runtime.open(exported.artifact.path, threads=plan.target.limits.threads)
    together = session.run(dict(inputs))
    count = len(next(iter(inputs.values())))
    alone = [session.run({name: array[i : i + 1] for name, array in inputs.items()}) for i in range(count)]
    apart = 0.0
    for item in exported.artifact.outputs:
        step = 1.0 if item.quantization is not None else evaluated.step(item.name)
        apart = max(
            apart,
            float(steps_apart(together[item.name], np.concatenate([one[item.name] for one in alone]), step).max()),
        )
    return [
        Check(
            kind="fidelity", name="batch_steps", value=round(apart, 3), limit=1.0, direction="max", samples=count,
            method="largest output difference between a whole batch and its samples alone, in quantization steps",
        )
    ]  # fmt: skip


def failure_report(verification: Verification) -> str:
    """Which checks failed, by how much, and which layer diverges first."""
    lines = []
    for check in verification.checks:
        if not check.passed:
            relation = "above" if check.direction == "max" else "below"
            interval = f", 95 % CI {check.ci95[0]:.4g} … {check.ci95[1]:.4g}" if check.ci95 else ""
            count = f" on {check.samples} samples" if check.samples else ""
            lines.append(
                f"{check.kind}: {check.name} = {check.value:.6g} is {relation} its limit {check.limit:.6g}{count}{interval}"
            )
    if any(check.kind == "fidelity" and not check.passed for check in verification.checks):
        layer = first_divergence(list(verification.layers))
        if layer is not None:
            lines.append(
                f"first layer to diverge: {layer.operation} (tensor '{layer.tensor}'), {layer.sqnr_db:.1f} dB, mean {layer.mean_steps:.2f} steps"
            )
    return "\n".join(lines)


def _read(key: str, folder: Path) -> Verification:
    content = json.loads((folder / "verify.json").read_text(encoding="utf-8"))
    return Verification(
        key=key,
        folder=folder,
        checks=tuple(Check.from_dict(item) for item in content["checks"]),
        accuracy=content["accuracy"],
        accuracy_ci95=tuple(content["accuracy_ci95"]),
        also=content["also"],
        samples=content["samples"],
        layers=tuple(LayerDifference(**item) for item in content["layers"]),
        notes=tuple(content["notes"]),
        output_steps=tuple(content["output_steps"]),
    )
