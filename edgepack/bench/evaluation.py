"""The evaluation samples of a recipe as files for a device, proven to be those that a bundle was verified with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgepack.bench.models import BenchModel
from edgepack.bench.samples import BenchSamples
from edgepack.bundle import Bundle, report_name
from edgepack.bundle.manifest import Variant
from edgepack.core.errors import DataError, EdgepackError, UsageError
from edgepack.core.types import Array, Progress, Signature
from edgepack.plan import BuildPlan, make_plans
from edgepack.runtimes import RUNTIMES
from edgepack.runtimes.grid import quantize
from edgepack.stages.evaluate import border
from edgepack.stages.quality import judged_by_hits
from edgepack.stages.samples import open_role

_CHUNK = 32


def evaluation_samples(
    recipe: Path,
    bundle: Bundle,
    models: Sequence[BenchModel],
    borders: Mapping[str, Sequence[Signature]],
    *,
    variant: Variant,
    folder: Path,
    progress: Progress,
) -> BenchSamples:
    """Every evaluation sample, preprocessed and at each model's border, written into `folder`; and what each model answers here, where its runtime is.

    Raises DataError when the preprocessed bytes are not those of the bundle's parity report, UsageError for a bundle without one.
    """
    verified = _verified_with(bundle, variant)
    plan = make_plans(recipe, targets=[variant.target])[0]
    samples = open_role(plan, plan.evaluation, labelled=True)
    progress.start("Preparing the evaluation samples", total=len(samples))
    files = {
        model.label: _files(folder / str(index), borders[model.label], len(samples))
        for index, model in enumerate(models)
    }
    arrays = {
        label: {name: np.load(path, mmap_mode="r+") for name, path in each.items()} for label, each in files.items()
    }
    digest, done = hashlib.sha256(), 0
    for chunk in samples.chunks(_CHUNK):
        for name in sorted(chunk.inputs):
            digest.update(np.ascontiguousarray(chunk.inputs[name]).tobytes())
        for label, signatures in borders.items():
            values = border(plan, signatures, chunk)
            for signature in signatures:
                arrays[label][signature.name][done : done + len(chunk)] = _at_border(values[signature.name], signature)
        done += len(chunk)
        progress.advance(len(chunk))
    if digest.hexdigest() != verified:
        raise DataError(
            f"{recipe}: its evaluation samples, preprocessed, are not those that the bundle was verified with "
            f"({digest.hexdigest()[:12]}…, not {verified[:12]}…); use the recipe and the data of that build"
        )
    progress.done(f"{len(samples)} samples")
    assert samples.labels is not None
    output = plan.recipe.metric.output or variant.outputs[0].name
    return BenchSamples(
        files=files,
        labels=samples.labels,
        output=output,
        metric=_device_metric(plan.recipe.metric.name),
        inputs_sha256=verified,
        expected=_expected(models, arrays, output, plan, progress),
        steps={model.label: _step(variant, output) for model in models},
    )


def _device_metric(metric: str) -> str:
    """What is judged on a device: answers are kept one by one, for `compare` and `gate` to pair, so of F1 and the like only whether each is right."""
    return metric if judged_by_hits(metric) else "top1"


def _verified_with(bundle: Bundle, variant: Variant) -> str:
    report = report_name(bundle, variant, "parity.json")
    if report is None:
        raise UsageError("--accuracy: this bundle says not which samples it was verified with; build it again")
    return str(json.loads(bundle.read(report))["inputs_sha256"])


def _files(folder: Path, signatures: Sequence[Signature], count: int) -> dict[str, Path]:
    """An empty array for each input."""
    folder.mkdir()
    files = {}
    for index, signature in enumerate(signatures):
        files[signature.name] = folder / f"input_{index}.npy"
        shape = (count, *signature.shape[1:])
        np.lib.format.open_memmap(
            files[signature.name], mode="w+", dtype=np.dtype(signature.dtype), shape=shape
        ).flush()
    return files


def _at_border(values: Array, signature: Signature) -> Array:
    if signature.quantization is None:
        return values.astype(signature.dtype, copy=False)
    return quantize(values, signature.quantization)


def _expected(
    models: Sequence[BenchModel],
    arrays: Mapping[str, Mapping[str, Array]],
    output: str,
    plan: BuildPlan,
    progress: Progress,
) -> dict[str, Array]:
    """What each model answers on this machine; one whose runtime is not here is left out, and said."""
    found = {}
    for model in models:
        progress.start(f"Running {model.label} here, to compare with")
        try:
            options = {
                name: value for name, value in model.runtime_options.items() if name != "delegate"
            }  # the device's
            runtime = RUNTIMES.load(model.runtime).model_validate(options)
            session = runtime.open(model.path, threads=plan.target.limits.threads)
        except EdgepackError as exc:
            progress.done(f"not possible: {exc}")
            continue
        outputs = session.run({name: np.ascontiguousarray(array) for name, array in arrays[model.label].items()})
        found[model.label] = outputs[output]
        progress.done(f"{len(outputs[output])} samples")
    return found


def _step(variant: Variant, output: str) -> float:
    """The size of one output step in the file's own units: 1 where it gives codes."""
    names = [item.name for item in variant.outputs]
    tensor, golden = variant.outputs[names.index(output)], variant.golden
    if tensor.quantization is not None or golden is None or golden.output_steps is None:
        return 1.0
    return golden.output_steps[names.index(output)]
