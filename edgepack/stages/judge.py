"""The judge of a build: what the outputs of original, compressed network and artifact say against the recipe's limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepack import stats
from edgepack.bundle.golden import float_step
from edgepack.core.types import Array, Check
from edgepack.plan import BuildPlan
from edgepack.stages.evaluate import Evaluated
from edgepack.stages.export import ExportedModel
from edgepack.stages.quality import flat, interval_words, metric_ci, metric_drop, metric_value, metric_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The checks, and the metric of the original ('float'), the compressed network ('compressed') and the artifact ('artifact').

    `also` has for each further metric of the recipe the same by name.
    """

    checks: tuple[Check, ...]
    accuracy: Mapping[str, float]
    accuracy_ci95: tuple[float, float]
    also: Mapping[str, Mapping[str, float]]
    samples: int


def judge(plan: BuildPlan, exported: ExportedModel, evaluated: Evaluated, labels: NDArray[np.int64]) -> Judgement:
    """Every check that outputs and bytes can answer. `labels` are int64 of shape (N,), class indices."""
    judged = judged_output(plan, exported)
    models = {"float": evaluated.original, "compressed": evaluated.compressed, "artifact": evaluated.artifact}
    outputs = {name: model.arrays() for name, model in models.items() if model is not None}
    scores = {name: values[judged] for name, values in outputs.items()}
    metric = plan.recipe.metric
    also = {name: metric_values(values, labels, metric.also) for name, values in scores.items()}
    return Judgement(
        checks=(
            *(_fidelity(plan, exported, evaluated, outputs) if evaluated.compressed is not None else ()),
            *_accuracy(plan, scores, labels),
            *_budget(plan, exported),
        ),
        accuracy={name: metric_value(values, labels, metric.name) for name, values in scores.items()},
        accuracy_ci95=metric_ci(scores["artifact"], labels, metric.name),
        also={name: {model: values[name] for model, values in also.items()} for name in metric.also},
        samples=len(labels),
    )


def judged_output(plan: BuildPlan, exported: ExportedModel) -> str:
    """The name of the output that the metric reads."""
    return plan.recipe.metric.output or exported.artifact.outputs[0].name


def steps_apart(a: Array, b: Array, step: float | None) -> Array:
    """|a − b| of shape (N, values) in steps of the output's grid; without one, of a grid of 256 codes over the values of a."""
    size = step or float(float_step(a)) or float(float_step(b)) or 1.0
    difference: Array = np.abs(flat(a).astype(np.float64) - flat(b))
    return difference / size


def _fidelity(
    plan: BuildPlan,
    exported: ExportedModel,
    evaluated: Evaluated,
    outputs: Mapping[str, Mapping[str, Array]],
) -> list[Check]:
    compressed, artifact = outputs["compressed"], outputs["artifact"]
    limits = plan.recipe.fidelity
    judged = judged_output(plan, exported)
    count = len(compressed[judged])
    agree = int((flat(compressed[judged]).argmax(1) == flat(artifact[judged]).argmax(1)).sum())
    steps = [
        steps_apart(compressed[item.name], artifact[item.name], evaluated.step(item.name))
        for item in exported.artifact.outputs
    ]
    means = np.concatenate([part.mean(axis=1) for part in steps])
    # Codes are whole numbers; what float arithmetic leaves behind the third decimal is not a difference.
    largest = round(max(float(part.max()) for part in steps), 3)
    made = {"kind": "fidelity", "samples": count}
    return [
        Check(
            name="top1_agreement", value=agree / count, limit=limits.top1_agreement_min, direction="min",
            ci95=stats.binomial_ci(agree, count), method="artifact against compressed network; Wilson interval", **made,  # type: ignore[arg-type]
        ),
        Check(
            name="mean_steps", value=float(means.mean()), limit=limits.mean_steps_max, direction="max",
            ci95=stats.mean_ci(means), method="mean output difference in quantization steps; t interval over samples", **made,  # type: ignore[arg-type]
        ),
        Check(
            name="max_steps", value=largest, limit=limits.max_steps_max, direction="max",
            method="largest output difference in quantization steps", **made,  # type: ignore[arg-type]
        ),
        Check(
            kind="fidelity", name="extra_operators", value=float(_unexpected_operators(exported)), limit=0.0, direction="max",
            method="operators beyond the float graph's and the border's QUANTIZE and DEQUANTIZE",
        ),
    ]  # fmt: skip


def _unexpected_operators(exported: ExportedModel) -> int:
    extra = list(exported.extra_operators)
    allowed = {"QUANTIZE": exported.artifact.inputs, "DEQUANTIZE": exported.artifact.outputs}
    for kind, tensors in allowed.items():
        for tensor in tensors:
            if tensor.dtype == "float32" and kind in extra:
                extra.remove(kind)
    return len(extra)


def _accuracy(plan: BuildPlan, scores: Mapping[str, Array], labels: NDArray[np.int64]) -> list[Check]:
    limit, metric = plan.recipe.budget.drop_points, plan.recipe.metric.name
    if limit is None or "float" not in scores:
        return []
    drop_points, interval = metric_drop(scores["float"], scores["artifact"], labels, metric)
    return [
        Check(
            kind="accuracy", name="drop_points", value=drop_points, limit=limit, direction="max", samples=len(labels),
            ci95=interval, method=f"{metric} of the original minus that of the artifact, in points; {interval_words(metric)}",
        )
    ]  # fmt: skip


def _budget(plan: BuildPlan, exported: ExportedModel) -> list[Check]:
    limit = plan.recipe.budget.size_bytes
    if limit is None:
        return []
    size = float(exported.artifact.size_bytes)
    return [
        Check(
            kind="budget",
            name="size_bytes",
            value=size,
            limit=float(limit),
            direction="max",
            method="size of the model file",
        )
    ]
