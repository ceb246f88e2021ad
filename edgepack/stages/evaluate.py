"""Evaluate: what every model of a build gives for the same samples, each kept by what it depends on.

The original, each compressed network and each artifact in its runtime (and in the target's witnesses) see the same preprocessed bytes in one
pass. Outputs that are there already are not computed again, so a changed limit costs nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.core.errors import EnvironmentProblem, UnsupportedError
from edgepack.core.types import Array, Artifact, Progress, Samples, Signature
from edgepack.plan import BuildPlan
from edgepack.runtimes import Runtime
from edgepack.stages.export import ExportedModel
from edgepack.stages.load import Stored
from edgepack.stages.samples import open_role
from edgepack.store.cache import StageCache

if TYPE_CHECKING:
    from edgepack.network.model import Model

_BATCH = 8
_CHUNK = 32
Predict = Callable[[Samples], Mapping[str, Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """One model's outputs for all evaluation samples. `facts` say what ran; `inputs_sha256` is the digest of the preprocessed bytes."""

    key: str
    folder: Path
    facts: Mapping[str, Any]

    def arrays(self) -> dict[str, Array]:
        """Real values of shape (N, …) by output name, float32."""
        with np.load(self.folder / "outputs.npz", allow_pickle=False) as content:
            return {name: content[name] for name in content.files}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The outputs that concern one target. `not_run` has the witnesses that can't run here, with the reason.

    `original` and `compressed` are None for a finished model: no network of it is known.
    """

    original: Outputs | None
    compressed: Outputs | None
    artifact: Outputs
    witnesses: Mapping[str, Outputs] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> list[str]:
        """What a judgement of them depends on."""
        return [*(item.key for item in self.all), *sorted(self.not_run)]

    @property
    def all(self) -> tuple[Outputs, ...]:
        """Everything that ran."""
        found = (self.original, self.compressed, self.artifact, *self.witnesses.values())
        return tuple(item for item in found if item is not None)

    def step(self, output: str) -> float | None:
        """The step of an output's grid in the compressed network, else in the file; None where it has none."""
        step = (self.compressed or self.artifact).facts["steps"].get(output)
        return None if step is None else float(step)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """Something that predicts. `open` answers with the predictor and the facts to keep."""

    key: str
    open: Callable[[], tuple[Predict, dict[str, Any]]]


def evaluate(
    plans: Sequence[BuildPlan],
    cache: StageCache,
    loaded: Stored | None,
    compressed: Sequence[Stored | None],
    exported: Sequence[ExportedModel],
    progress: Progress,
) -> tuple[Evaluated, ...]:
    """For each plan, the outputs of its models. `compressed` and `exported` go with `plans`; a finished model has no network."""
    first = plans[0]
    subjects: dict[str, _Subject] = {}
    original = None if loaded is None else _key(first, "float", loaded.key)
    if loaded is not None and original is not None:
        subjects[original] = _Subject(key=original, open=partial(_network, first, loaded))
    wanted = []
    for plan, network, artifact in zip(plans, compressed, exported, strict=True):
        mine: dict[str, str] = {}
        if network is not None:
            mine["compressed"] = _key(plan, "compressed", network.key)
            subjects[mine["compressed"]] = _Subject(key=mine["compressed"], open=partial(_network, plan, network))
        not_run: dict[str, str] = {}
        for name, runtime in ((plan.target.runtime, plan.runtime), *plan.witnesses):
            key = _runtime_key(plan, name, runtime, artifact.key)
            is_witness = name != plan.target.runtime
            if is_witness and cache.find("outputs", key) is None and (reason := _missing(runtime, artifact.artifact)):
                not_run[name] = reason
                continue
            mine[name] = key
            subjects[mine[name]] = _Subject(
                key=mine[name],
                open=partial(_session, plan, runtime, artifact.artifact),
            )
        wanted.append((mine, not_run))
    found = _run(first, cache, list(subjects.values()), progress)
    return tuple(
        Evaluated(
            original=None if original is None else found[original],
            compressed=found[mine["compressed"]] if "compressed" in mine else None,
            artifact=found[mine[plan.target.runtime]],
            witnesses={name: found[mine[name]] for name, _ in plan.witnesses if name in mine},
            not_run=not_run,
        )
        for plan, (mine, not_run) in zip(plans, wanted, strict=True)
    )


def border(plan: BuildPlan, inputs: Sequence[Signature], samples: Samples) -> dict[str, Array]:
    """Samples in the layout of an artifact's inputs."""
    declared = {item.name: item.layout for item in plan.inputs}
    turned = {item.name for item in inputs if item.layout == "NHWC" and declared[item.name] == "CHW"}
    return {
        name: np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if name in turned else array
        for name, array in samples.inputs.items()
    }


def outputs_keys(plan: BuildPlan, loaded: str | None, compressed: str | None, exported: str) -> list[str]:
    """The keys of the outputs that concern a target, witnesses left out; a finished model has no network."""
    runtime = _runtime_key(plan, plan.target.runtime, plan.runtime, exported)
    networks = [_key(plan, name, key) for name, key in (("float", loaded), ("compressed", compressed)) if key]
    return [*networks, runtime]


def _runtime_key(plan: BuildPlan, name: str, runtime: Runtime, exported: str) -> str:
    return _key(plan, name, exported, runtime.model_dump(mode="json"), plan.target.limits.threads)


def _key(plan: BuildPlan, what: str, *parts: Any) -> str:
    return plan.key("outputs", what, *parts, dict(plan.evaluation.fingerprint), list(plan.preprocess))


def _missing(runtime: Runtime, artifact: Artifact) -> str:
    """Why a witness can't run the artifact here; '' where it can."""
    try:
        runtime.open(artifact.path)
    except (EnvironmentProblem, UnsupportedError) as exc:
        return str(exc)
    return ""


def _network(plan: BuildPlan, stored: Stored) -> tuple[Predict, dict[str, Any]]:
    from edgepack.network.model import output_steps, predict

    model: Model = stored.open(plan)
    return lambda batch: predict(model, batch, batch_size=_BATCH), {"steps": output_steps(model)}


def _session(plan: BuildPlan, runtime: Runtime, artifact: Artifact) -> tuple[Predict, dict[str, Any]]:
    session = runtime.open(artifact.path, threads=plan.target.limits.threads)
    facts = {
        "execution": asdict(session.execution),
        "version": runtime.version(),
        "steps": {item.name: item.quantization and item.quantization.step for item in artifact.outputs},
    }
    return lambda batch: session.run_float(border(plan, artifact.inputs, batch)), facts


def _run(plan: BuildPlan, cache: StageCache, subjects: Sequence[_Subject], progress: Progress) -> dict[str, Outputs]:
    missing = [subject for subject in subjects if cache.find("outputs", subject.key) is None]
    if missing:
        samples = open_role(plan, plan.evaluation, labelled=True)
        progress.start(f"Evaluating {len(missing)} models on the same samples", total=len(samples))
        predictors = {subject.key: subject.open() for subject in missing}
        parts: dict[str, dict[str, list[Array]]] = {subject.key: {} for subject in missing}
        digest = hashlib.sha256()
        spent_s = dict.fromkeys(predictors, 0.0)
        for chunk in samples.chunks(_CHUNK):
            for name in sorted(chunk.inputs):
                digest.update(np.ascontiguousarray(chunk.inputs[name]).tobytes())
            for batch in chunk.batches(_BATCH):
                for key, (predict, _) in predictors.items():
                    started = time.monotonic()
                    for name, array in predict(batch).items():
                        parts[key].setdefault(name, []).append(array)
                    spent_s[key] += time.monotonic() - started
                progress.advance(len(batch))
        for key, (_, facts) in predictors.items():
            arrays = {name: np.concatenate(values) for name, values in parts.pop(key).items()}
            facts = {**facts, "inputs_sha256": digest.hexdigest()}
            cache.run("outputs", key, _writer(arrays, facts), progress=progress, spent_s=spent_s[key])
        progress.done(f"{len(samples)} samples")
    return {subject.key: _read(cache, subject.key) for subject in subjects}


def _writer(arrays: Mapping[str, Array], facts: dict[str, Any]) -> Callable[[Path], dict[str, Any]]:
    def work(scratch: Path) -> dict[str, Any]:
        np.savez(scratch / "outputs.npz", **arrays)  # type: ignore[arg-type]
        return facts

    return work


def _read(cache: StageCache, key: str) -> Outputs:
    folder = cache.find("outputs", key)
    assert folder is not None
    return Outputs(key=key, folder=folder, facts=cache.facts(folder))
