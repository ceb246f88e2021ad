"""Verify: is the export faithful, is the compression affordable, does it fit the budget? Each a number against a limit.

The three are asked apart because their cures differ. All are asked of the very file that ships, on the same samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack import stats
from edgepack.bundle.golden import float_step
from edgepack.core.files import write_json
from edgepack.core.types import Array, Check, Progress, Samples
from edgepack.plan import BuildPlan
from edgepack.runtimes import RUNTIMES
from edgepack.runtimes.protocol import Session
from edgepack.stages.divergence import LayerDifference, compare_layers, first_divergence
from edgepack.stages.export import ExportedModel
from edgepack.stages.load import Stored
from edgepack.stages.samples import samples_of
from edgepack.store.cache import StageCache

GOLDEN_SAMPLES = 8
_LAYER_SAMPLES = 4
_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found. `accuracy` has the metric of the original ('float'), the compressed network ('compressed') and the artifact
    ('artifact'); `layers` compares tensors in execution order; golden inputs and outputs are arrays of the artifact's own types."""

    key: str
    folder: Path
    checks: tuple[Check, ...]
    accuracy: Mapping[str, float]
    accuracy_ci95: tuple[float, float]
    samples: int
    layers: tuple[LayerDifference, ...]

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
    loaded: Stored,
    compressed: Stored,
    exported: ExportedModel,
    measured: tuple[Check, ...],
    progress: Progress,
) -> Verification:
    """Run original, compressed network and artifact over the evaluation samples and judge. `measured` are checks made on a device."""
    recipe = plan.recipe
    key = plan.key(
        "verify",
        exported.key,
        loaded.key,
        dict(plan.evaluation.fingerprint),
        recipe.metric.model_dump(mode="json"),
        recipe.fidelity.model_dump(mode="json"),
        recipe.budget.model_dump(mode="json"),
        [check.as_dict() for check in measured],
        plan.target.limits.threads,
        recipe.bundle.labels if isinstance(recipe.bundle.labels, str) else None,
    )

    def work(scratch: Path) -> dict[str, Any]:
        judge = _Judge(plan, cache, loaded, compressed, exported, progress)
        return judge.run(scratch, measured)

    return _read(key, cache.run("verify", key, work, progress=progress))


class _Judge:
    """One verification: the samples and the three models' outputs on them."""

    def __init__(
        self,
        plan: BuildPlan,
        cache: StageCache,
        loaded: Stored,
        compressed: Stored,
        exported: ExportedModel,
        progress: Progress,
    ) -> None:
        self.plan, self.cache, self.loaded, self.compressed, self.exported, self.progress = (
            plan,
            cache,
            loaded,
            compressed,
            exported,
            progress,
        )
        self.judged = plan.recipe.metric.output or exported.artifact.outputs[0].name

    def run(self, scratch: Path, measured: tuple[Check, ...]) -> dict[str, Any]:
        classes = self._classes()
        samples = samples_of(self.plan, self.plan.evaluation, classes=classes, labelled=True)
        model = self.compressed.open(self.plan)
        outputs = {
            "float": self._network_outputs("Evaluating the original model", self.loaded, samples),
            "compressed": self._network_outputs("Evaluating the compressed model", self.compressed, samples),
        }
        session = RUNTIMES.load(self.plan.target.runtime)().open(
            self.exported.artifact.path, threads=self.plan.target.limits.threads
        )
        outputs["artifact"] = self._artifact_outputs(session, samples)
        assert samples.labels is not None
        correct = {
            name: _hits(values[self.judged], samples.labels, self.plan.recipe.metric.name)
            for name, values in outputs.items()
        }
        checks = (
            *self._fidelity(outputs["compressed"], outputs["artifact"]),
            *self._accuracy(correct),
            *self._budget(),
            *measured,
        )
        layers = self._layers(model, samples)
        self._write_golden(scratch, session, samples)
        write_json(
            scratch / "verify.json",
            {
                "checks": [check.as_dict() for check in checks],
                "accuracy": {name: float(values.mean()) for name, values in correct.items()},
                "accuracy_ci95": list(stats.binomial_ci(int(correct["artifact"].sum()), len(samples))),
                "metric": self.plan.recipe.metric.name,
                "samples": len(samples),
                "layers": [layer.as_dict() for layer in layers],
                "notes": list(self.exported.notes),
            },
        )
        return {"passed": all(check.passed for check in checks), "samples": len(samples)}

    def _classes(self) -> int | None:
        output = next(item for item in self.exported.artifact.outputs if item.name == self.judged)
        return output.shape[-1] if len(output.shape) == 2 else None

    def _network_outputs(self, what: str, stored: Stored, samples: Samples) -> dict[str, Array]:
        """The network's outputs on all samples; those of the original are kept for the next build."""
        from edgepack.network.model import predict

        key = self.plan.key("outputs", stored.key, dict(self.plan.evaluation.fingerprint), list(self.plan.preprocess))

        def work(scratch: Path) -> dict[str, Any]:
            model = stored.open(self.plan)
            self.progress.start(what, total=len(samples))
            parts: dict[str, list[Array]] = {}
            for batch in samples.batches(_BATCH):
                for name, values in predict(model, batch, batch_size=_BATCH).items():
                    parts.setdefault(name, []).append(values)
                self.progress.advance(len(batch))
            np.savez(scratch / "outputs.npz", **{name: np.concatenate(values) for name, values in parts.items()})  # type: ignore[arg-type]
            self.progress.done(f"{len(samples)} samples")
            return {}

        with np.load(
            self.cache.run("outputs", key, work, progress=self.progress) / "outputs.npz", allow_pickle=False
        ) as content:
            return {name: content[name] for name in content.files}

    def _artifact_outputs(self, session: Session, samples: Samples) -> dict[str, Array]:
        self.progress.start("Evaluating the exported file", total=len(samples))
        parts: dict[str, list[Array]] = {}
        for batch in samples.batches(_BATCH):
            for name, values in session.run_float(self._border(batch)).items():
                parts.setdefault(name, []).append(values)
            self.progress.advance(len(batch))
        self.progress.done(f"{len(samples)} samples")
        return {name: np.concatenate(values) for name, values in parts.items()}

    def _border(self, samples: Samples) -> dict[str, Array]:
        """Samples in the layout of the artifact's inputs."""
        turned = {
            item.name
            for item in self.exported.artifact.inputs
            if item.layout == "NHWC" and self._declared(item.name) == "CHW"
        }
        return {
            name: np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if name in turned else array
            for name, array in samples.inputs.items()
        }

    def _declared(self, name: str) -> str:
        return next(item.layout for item in self.plan.recipe.model.inputs if item.name == name)

    def _fidelity(self, compressed: Mapping[str, Array], artifact: Mapping[str, Array]) -> list[Check]:
        limits = self.plan.recipe.fidelity
        count = len(compressed[self.judged])
        agree = int((_flat(compressed[self.judged]).argmax(1) == _flat(artifact[self.judged]).argmax(1)).sum())
        steps = [
            np.abs(_flat(artifact[item.name]) - _flat(compressed[item.name]))
            / (
                item.quantization.step
                if item.quantization is not None
                else self._float_step(item.name, compressed[item.name])
            )
            for item in self.exported.artifact.outputs
        ]
        means = np.concatenate([part.mean(axis=1) for part in steps])
        largest = max(float(part.max()) for part in steps)
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
                kind="fidelity", name="extra_operators", value=float(self._unexpected_operators()), limit=0.0, direction="max",
                method="operators beyond the float graph's and the border's QUANTIZE and DEQUANTIZE",
            ),
        ]  # fmt: skip

    def _float_step(self, name: str, values: Array) -> float:
        """The step of an output that leaves the artifact as float: that of the grid imposed inside."""
        last = [
            params
            for op, params in self.exported.tensors.values()
            if params.axis is None and op == self._output_operation(name)
        ]
        return last[0].step if last else float(float_step(values))

    def _output_operation(self, name: str) -> str | None:
        index = [item.name for item in self.exported.artifact.outputs].index(name)
        return (
            list(self.exported.tensors.values())[-1][0]
            if index == 0 and len(self.exported.artifact.outputs) == 1
            else None
        )

    def _unexpected_operators(self) -> int:
        extra = list(self.exported.extra_operators)
        allowed = {"QUANTIZE": self.exported.artifact.inputs, "DEQUANTIZE": self.exported.artifact.outputs}
        for kind, tensors in allowed.items():
            for tensor in tensors:
                if tensor.dtype == "float32" and kind in extra:
                    extra.remove(kind)
        return len(extra)

    def _accuracy(self, correct: Mapping[str, NDArray[np.bool_]]) -> list[Check]:
        limit = self.plan.recipe.budget.drop_points
        if limit is None:
            return []
        drop_points, interval = stats.paired_drop(correct["float"], correct["artifact"])
        return [
            Check(
                kind="accuracy", name="drop_points", value=drop_points, limit=limit, direction="max", samples=len(correct["float"]),
                ci95=interval, method=f"{self.plan.recipe.metric.name} of the original minus that of the artifact, in points; paired interval",
            )
        ]  # fmt: skip

    def _budget(self) -> list[Check]:
        limit = self.plan.recipe.budget.size_bytes
        if limit is None:
            return []
        size = float(self.exported.artifact.size_bytes)
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

    def _layers(self, model: Any, samples: Samples) -> list[LayerDifference]:
        if not self.exported.tensors:
            return []
        few = samples.take(slice(0, _LAYER_SAMPLES))
        session = RUNTIMES.load(self.plan.target.runtime)().open(self.exported.artifact.path, keep_tensors=True)
        return compare_layers(model, session, dict(self.exported.tensors), few, self._border(few))

    def _write_golden(self, scratch: Path, session: Session, samples: Samples) -> None:
        from edgepack.runtimes.grid import quantize

        border = self._border(samples.take(slice(0, GOLDEN_SAMPLES)))
        inputs = {
            item.name: border[item.name]
            if item.quantization is None
            else quantize(border[item.name], item.quantization)
            for item in self.exported.artifact.inputs
        }
        outputs = session.run(inputs)
        arrays = {
            **{f"in:{name}": array for name, array in inputs.items()},
            **{f"out:{name}": array for name, array in outputs.items()},
        }
        np.savez(scratch / "golden.npz", **arrays)  # type: ignore[arg-type]


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


def _hits(outputs: Array, labels: NDArray[np.int64], metric: str) -> NDArray[np.bool_]:
    scores = _flat(outputs)
    if metric == "top1":
        return np.asarray(scores.argmax(1) == labels)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return np.asarray((best == labels[:, None]).any(1))


def _flat(array: Array) -> Array:
    return array.reshape(len(array), -1)


def _read(key: str, folder: Path) -> Verification:
    content = json.loads((folder / "verify.json").read_text(encoding="utf-8"))
    return Verification(
        key=key,
        folder=folder,
        checks=tuple(_check(item) for item in content["checks"]),
        accuracy=content["accuracy"],
        accuracy_ci95=tuple(content["accuracy_ci95"]),
        samples=content["samples"],
        layers=tuple(LayerDifference(**item) for item in content["layers"]),
    )


def _check(item: dict[str, Any]) -> Check:
    values = {name: value for name, value in item.items() if name != "passed"}
    return Check(**{**values, "ci95": None if values["ci95"] is None else tuple(values["ci95"])})
