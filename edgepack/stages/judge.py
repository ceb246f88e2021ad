"""The judge of a build: original, compressed network and artifact on the same samples, and what the numbers say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepack import stats
from edgepack.bundle.golden import float_step
from edgepack.core.files import write_json
from edgepack.core.types import Array, Check, Progress, Samples
from edgepack.plan import BuildPlan
from edgepack.runtimes.grid import quantize
from edgepack.runtimes.protocol import Session
from edgepack.stages.divergence import LayerDifference, compare_layers
from edgepack.stages.export import ExportedModel
from edgepack.stages.load import Stored
from edgepack.stages.samples import open_role
from edgepack.store.cache import StageCache

if TYPE_CHECKING:
    from edgepack.network.model import Model

GOLDEN_SAMPLES = 8
_LAYER_SAMPLES = 4
_BATCH = 8
_CHUNK = 32


class Judge:
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
        model = self.compressed.open(self.plan)
        session = self.plan.runtime.open(self.exported.artifact.path, threads=self.plan.target.limits.threads)
        outputs, labels, first = self._outputs(model, session)
        correct = {
            name: _hits(values[self.judged], labels, self.plan.recipe.metric.name) for name, values in outputs.items()
        }
        checks = (
            *self._fidelity(outputs["compressed"], outputs["artifact"]),
            *self._accuracy(correct),
            *self._budget(),
            *measured,
        )
        layers = self._layers(model, first)
        self._write_golden(scratch, session, first)
        write_json(
            scratch / "verify.json",
            {
                "checks": [check.as_dict() for check in checks],
                "accuracy": {name: float(values.mean()) for name, values in correct.items()},
                "accuracy_ci95": list(stats.binomial_ci(int(correct["artifact"].sum()), len(labels))),
                "metric": self.plan.recipe.metric.name,
                "samples": len(labels),
                "layers": [layer.as_dict() for layer in layers],
                "notes": list(self.exported.notes),
            },
        )
        return {"passed": all(check.passed for check in checks), "samples": len(labels)}

    def _outputs(
        self, model: Model, session: Session
    ) -> tuple[dict[str, dict[str, Array]], NDArray[np.int64], Samples]:
        """The outputs of original, compressed network and artifact on the same samples, their labels, and the first few samples.

        The original's are kept for the next build.
        """
        from edgepack.network.model import predict

        evaluation = self.plan.evaluation
        key = self.plan.key("outputs", self.loaded.key, dict(evaluation.fingerprint), list(self.plan.preprocess))
        kept = self.cache.find("outputs", key)
        original = None if kept is not None else self.loaded.open(self.plan)
        parts: dict[str, dict[str, list[Array]]] = {"float": {}, "compressed": {}, "artifact": {}}
        labels: list[Array] = []
        first: Samples | None = None
        opened = open_role(self.plan, evaluation, classes=self._classes(), labelled=True)
        self.progress.start("Evaluating original, compressed and exported model", total=len(opened))
        for samples in opened.chunks(_CHUNK):
            first = first or samples.take(slice(0, GOLDEN_SAMPLES))
            assert samples.labels is not None
            labels.append(samples.labels)
            for batch in samples.batches(_BATCH):
                if original is not None:
                    _append(parts["float"], predict(original, batch, batch_size=_BATCH))
                _append(parts["compressed"], predict(model, batch, batch_size=_BATCH))
                _append(parts["artifact"], session.run_float(self._border(batch)))
                self.progress.advance(len(batch))
        assert first is not None
        outputs = {
            name: {output: np.concatenate(values) for output, values in part.items()} for name, part in parts.items()
        }

        def work(scratch: Path) -> dict[str, Any]:
            np.savez(scratch / "outputs.npz", **outputs["float"])  # type: ignore[arg-type]
            return {}

        folder = self.cache.run("outputs", key, work, progress=self.progress)
        with np.load(folder / "outputs.npz", allow_pickle=False) as content:
            outputs["float"] = {name: content[name] for name in content.files}
        self.progress.done(f"{sum(map(len, labels))} samples")
        return outputs, np.concatenate(labels), first

    def _classes(self) -> int | None:
        output = next(item for item in self.exported.artifact.outputs if item.name == self.judged)
        return output.shape[-1] if len(output.shape) == 2 else None

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
        return next(item.layout for item in self.plan.inputs if item.name == name)

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

    def _layers(self, model: Model, samples: Samples) -> list[LayerDifference]:
        if not self.exported.tensors:
            return []
        few = samples.take(slice(0, _LAYER_SAMPLES))
        session = self.plan.runtime.open(self.exported.artifact.path, keep_tensors=True)
        return compare_layers(model, session, dict(self.exported.tensors), few, self._border(few))

    def _write_golden(self, scratch: Path, session: Session, samples: Samples) -> None:
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


def _append(parts: dict[str, list[Array]], values: Mapping[str, Array]) -> None:
    for name, array in values.items():
        parts.setdefault(name, []).append(array)


def _hits(outputs: Array, labels: NDArray[np.int64], metric: str) -> NDArray[np.bool_]:
    scores = _flat(outputs)
    if metric == "top1":
        return np.asarray(scores.argmax(1) == labels)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return np.asarray((best == labels[:, None]).any(1))


def _flat(array: Array) -> Array:
    return array.reshape(len(array), -1)
