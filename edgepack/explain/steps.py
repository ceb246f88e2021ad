"""What each step of a build bought: the model after it exported for the target, weighed, judged and, when asked, timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgepack.bench import BenchModel, BenchProtocol, bench
from edgepack.bundle.precision import spoken
from edgepack.core.errors import UnsupportedError, UsageError
from edgepack.core.types import Array, Artifact, Progress
from edgepack.devices import TRANSPORTS
from edgepack.explain.build import KeptBuild
from edgepack.explain.facts import StepAccount, Steps
from edgepack.explain.graph import graph_of
from edgepack.explain.layers import layers_of
from edgepack.explain.weights import read_weight
from edgepack.stages.evaluate import evaluate
from edgepack.stages.export import ExportedModel, baseline, export
from edgepack.stages.judge import judged_output
from edgepack.stages.load import Stored
from edgepack.stages.precision import export_precision
from edgepack.stages.quality import metric_drop, metric_value
from edgepack.stages.samples import open_role
from edgepack.tune.measure import wire_bytes

ORIGINAL = "original"
_PROTOCOL = BenchProtocol(warmup_min_s=0.2, warmup_max_s=1.0, duration_min_s=0.5, iterations_min=100, repetitions=3)


def steps_of(build: KeptBuild, *, latency: bool, progress: Progress) -> Steps:
    """The original and the model after each step. What is exported and evaluated is kept in the work folder, so an interrupted call goes on where it was.

    Raises UsageError where the steps' models are not there, and what `evaluate` and a bench raise.
    """
    if build.steps is None:
        raise UsageError(f"{build.cache.root}: {build.why_not}")
    plan = build.plan
    exported: dict[str, ExportedModel] = {}
    failed: dict[str, str] = {}
    for name, stored in _named(build):
        progress.start(f"Exporting {name}")
        try:
            make = baseline if stored is build.loaded else export
            exported[name] = make(plan, build.cache, stored, progress)
        except UnsupportedError as exc:
            failed[name] = str(exc)
        progress.done("not possible" if name in failed else "")
    outputs, labels = _judged(build, exported, progress)
    times = _times(build, exported, progress) if latency else {}
    metric = plan.recipe.metric.name
    rows = []
    for name, one in exported.items():
        worth = _Worth.of(outputs[name], outputs[ORIGINAL], labels, metric)
        rows.append(_row(build, name, one, worth, times.get(name), progress))
    return Steps(
        metric=metric,
        samples=len(labels),
        target=plan.target_name,
        rows=tuple(rows),
        failed=failed,
    )


def _named(build: KeptBuild) -> list[tuple[str, Stored]]:
    """The original and the models after each step, by names that are each there once."""
    found = [(ORIGINAL, build.loaded)]
    methods = [name for name, _ in build.steps or ()]
    for number, (name, stored) in enumerate(build.steps or (), 1):
        found.append((f"{number}. {name}" if methods.count(name) > 1 else name, stored))
    return found


def _judged(
    build: KeptBuild, exported: Mapping[str, ExportedModel], progress: Progress
) -> tuple[dict[str, Array], NDArray[np.int64]]:
    """The judged output of each exported file for the evaluation samples, and their labels."""
    plan, models = build.plan, list(exported.values())
    evaluated = evaluate([plan] * len(models), build.cache, None, [None] * len(models), models, progress)
    labels = open_role(plan, plan.evaluation, labelled=True).labels
    assert labels is not None
    pairs = zip(exported.items(), evaluated, strict=True)
    return {name: found.artifact.arrays()[judged_output(plan, one)] for (name, one), found in pairs}, labels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worth:
    """What the outputs of a file are worth, and what they lost against the original's."""

    accuracy: float
    drop_points: float
    drop_ci95: tuple[float, float]

    @classmethod
    def of(cls, outputs: Array, original: Array, labels: NDArray[np.int64], metric: str) -> _Worth:
        drop_points, interval = metric_drop(original, outputs, labels, metric)
        value = metric_value(outputs, labels, metric)
        return cls(accuracy=value, drop_points=drop_points, drop_ci95=interval)


def _row(
    build: KeptBuild, name: str, exported: ExportedModel, worth: _Worth, latency_ms: float | None, progress: Progress
) -> StepAccount:
    weighed = _weighed(exported.artifact)
    return StepAccount(
        step=name,
        precision=spoken(export_precision(build.plan, exported)),
        parameters=weighed.parameters,
        nonzero_parameters=weighed.nonzero,
        macs=weighed.macs,
        file_bytes=exported.artifact.size_bytes,
        coded_bytes=wire_bytes(build.plan, build.cache, exported, progress),
        accuracy=worth.accuracy,
        drop_points=worth.drop_points,
        drop_ci95=worth.drop_ci95,
        latency_p50_ms=latency_ms,
        unknown={} if latency_ms is not None else {"latency_p50_ms": "not measured: ask for it with --latency"},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """What is counted in a file."""

    parameters: int
    nonzero: int
    macs: int | None


def _weighed(artifact: Artifact) -> _Weighed:
    paths = (artifact.path, *artifact.companions)
    graph = graph_of(artifact.path.name, {one.name: one.read_bytes() for one in paths})
    layers, _ = layers_of(graph)
    constants = [part.constant for layer in layers for part in layer.parts if part.role in ("weight", "bias")]
    weights = [read_weight(graph.files[one.file], one.found, None) for one in constants]
    macs = [layer.macs for layer in layers]
    return _Weighed(
        parameters=sum(one.codes.size for one in weights),
        nonzero=sum(int((~one.is_zero).sum()) for one in weights),
        macs=None if None in macs else sum(one for one in macs if one is not None),
    )


def _times(build: KeptBuild, exported: Mapping[str, ExportedModel], progress: Progress) -> dict[str, float | None]:
    """Median milliseconds on this machine, the models in turn; a file that several steps have is measured once."""
    plan = build.plan
    models: Sequence[BenchModel] = [
        BenchModel(
            label=name,
            path=one.artifact.path,
            sha256=one.artifact.sha256,
            size_bytes=one.artifact.size_bytes,
            companions=one.artifact.companions,
            runtime=plan.target.runtime,
            runtime_options=plan.runtime.model_dump(mode="json"),
        )
        for name, one in exported.items()
    ]
    with TRANSPORTS.load("local")() as device:
        protocol = replace(_PROTOCOL, threads=plan.target.limits.threads)
        result = bench(models, device=device, protocol=protocol, progress=progress)
    return {name: result.measurement(name).p50_ms for name in exported}
