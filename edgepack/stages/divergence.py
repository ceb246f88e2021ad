"""Where an artifact leaves the network that it should be: tensor by tensor, in decibels."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.core.files import write_json
from edgepack.core.types import Array, Progress, Samples
from edgepack.plan import BuildPlan
from edgepack.stages.evaluate import border
from edgepack.stages.export import ExportedModel
from edgepack.stages.load import Stored
from edgepack.stages.samples import open_role
from edgepack.store.cache import StageCache

if TYPE_CHECKING:
    from edgepack.core.types import QuantParams
    from edgepack.network.model import Model
    from edgepack.runtimes.protocol import Session

DIVERGED_BELOW_DB = 20.0
_SAMPLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDifference:
    """One tensor of the artifact beside the network's operation.

    `sqnr_db` is the signal-to-quantization-noise ratio 10·log10(Σ reference² / Σ (reference − artifact)²) over the compared samples, capped at
    200 for equal tensors; `mean_steps` the mean difference in steps of the tensor's grid.
    """

    tensor: str
    operation: str
    sqnr_db: float
    mean_steps: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The comparison of one artifact with the network that it was exported from."""

    key: str
    layers: tuple[LayerDifference, ...]


def compare(
    plan: BuildPlan, cache: StageCache, compressed: Stored | None, exported: ExportedModel, progress: Progress
) -> Layers:
    """Every paired tensor of the artifact beside the compressed network's, on the first few evaluation samples."""
    key = layers_key(plan, exported.key)

    def work(scratch: Path) -> dict[str, Any]:
        found: list[LayerDifference] = []
        if exported.tensors and compressed is not None:
            progress.start("Comparing layer by layer")
            model = compressed.open(plan)
            samples = open_role(plan, plan.evaluation, labelled=True, first=_SAMPLES).all()
            session = plan.runtime.open(exported.artifact.path, keep_tensors=True)
            values = border(plan, exported.artifact.inputs, samples)
            found = compare_layers(model, session, dict(exported.tensors), samples, values)
            progress.done(f"{len(found)} tensors")
        write_json(scratch / "layers.json", [layer.as_dict() for layer in found])
        return {"tensors": len(found)}

    folder = cache.run("layers", key, work, progress=progress)
    content = json.loads((folder / "layers.json").read_text(encoding="utf-8"))
    return Layers(key=key, layers=tuple(LayerDifference(**item) for item in content))


def layers_key(plan: BuildPlan, exported: str) -> str:
    """The key of the comparison of the artifact with key `exported`."""
    return plan.key("layers", exported, dict(plan.evaluation.fingerprint), list(plan.preprocess))


def compare_layers(
    model: Model,
    session: Session,
    tensors: dict[str, tuple[str, QuantParams]],
    samples: Samples,
    border: dict[str, Array],
) -> list[LayerDifference]:
    """Every paired tensor, in execution order. `session` keeps its tensors; `border` is the samples as the artifact takes them."""
    reference = _activations(model, samples)
    theirs: dict[str, list[Array]] = {name: [] for name in tensors}
    for index in range(len(samples)):
        session.run_float({name: array[index : index + 1] for name, array in border.items()})
        values = session.tensors()
        for name in theirs:
            if name in values:
                theirs[name].append(values[name])
    order = [name for operator in session.operators() for name in operator.outputs]
    ranked = sorted(tensors, key=lambda name: order.index(name) if name in order else -1)
    found = {name: np.concatenate(theirs[name]) for name in ranked if theirs[name]}
    # A runtime may round a whole embedding table instead of the rows that are looked up: that tensor exists nowhere in it.
    return [
        _difference(name, *tensors[name], reference, values)
        for name, values in found.items()
        if values.size == reference[tensors[name][0]].size
    ]


def first_divergence(layers: list[LayerDifference]) -> LayerDifference | None:
    """The first layer whose noise is no longer that of rounding: below 20 dB, else the one after the largest fall."""
    below = next((layer for layer in layers if layer.sqnr_db < DIVERGED_BELOW_DB), None)
    if below is not None or len(layers) < 2:
        return below or (layers[0] if layers else None)
    falls = [before.sqnr_db - after.sqnr_db for before, after in itertools.pairwise(layers)]
    return layers[int(np.argmax(falls)) + 1]


def _activations(model: Model, samples: Samples) -> dict[str, Array]:
    """The quantized activations of the compressed network, by operation name."""
    import torch

    from edgepack.network.grid import activation_points, trace
    from edgepack.network.model import as_tensors

    points = activation_points(model.network, trace(model.build().eval(), model.example()))
    caught: dict[str, list[torch.Tensor]] = {}
    by_module: dict[int, list[str]] = {}
    for name, module in points.items():
        by_module.setdefault(id(module), []).append(name)
    handles = []
    for names in by_module.values():
        module = points[names[0]]
        # A shared quantizer is called once for each of its operations, in the order of execution.
        handles.append(
            module.register_forward_hook(
                lambda _m, _i, out, names=names: caught.setdefault(names[0], []).append(out.detach())
            )
        )
    model.network.eval()
    with torch.no_grad():
        model.network(*as_tensors(model, samples))
    for handle in handles:
        handle.remove()
    return {
        name: caught[names[0]][position].numpy()
        for names in by_module.values()
        if names[0] in caught
        for position, name in enumerate(names)
        if position < len(caught[names[0]])
    }


def _difference(
    tensor: str, operation: str, params: QuantParams, reference: dict[str, Array], theirs: Array
) -> LayerDifference:
    ours, aligned = in_layout_of(reference[operation], theirs)
    return LayerDifference(
        tensor=tensor,
        operation=operation,
        sqnr_db=round(sqnr_db(ours, aligned), 2),
        mean_steps=round(float(np.abs(ours - aligned).mean()) / params.step, 4),
    )


def sqnr_db(reference: Array, values: Array) -> float:
    """10·log10(Σ reference² / Σ (reference − values)²), within ±200; 200 where they are equal."""
    noise = float(np.square(reference.astype(np.float64) - values).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    return 200.0 if noise == 0 else max(-200.0, min(200.0, 10 * float(np.log10(max(signal, 1e-30) / noise))))


def in_layout_of(reference: Array, values: Array) -> tuple[Array, Array]:
    """Both in the reference's layout: of the layouts that the values may have, the nearest one.

    Where none fits, both sorted: then their distributions are compared.
    """
    aligned = min(
        _layouts(values, reference.shape),
        key=lambda candidate: float(np.square(candidate - reference).sum()),
        default=None,
    )
    if aligned is not None:
        return reference, aligned
    return np.sort(reference, axis=None), np.sort(values, axis=None)


def _layouts(array: Array, shape: tuple[int, ...]) -> list[Array]:
    """The array in the reference's shape: as it is, from channels last, or first, or reshaped where no dimension can be confused."""
    found = [array] if array.shape == shape else []
    if array.ndim == len(shape) and array.ndim > 2:
        for moved in (np.moveaxis(array, -1, 1), np.moveaxis(array, 1, -1)):
            found += [moved] if moved.shape == shape else []
    if not found and array.size == int(np.prod(shape)) and array.shape[0] == shape[0]:
        squeezed = [size for size in array.shape if size != 1], [size for size in shape if size != 1]
        if squeezed[0] == squeezed[1]:
            found.append(array.reshape(shape))
        elif len(shape) == 2 and array.ndim == 4:
            found += [array.reshape(shape), np.moveaxis(array, -1, 1).reshape(shape)]
    return found
