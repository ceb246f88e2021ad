"""Explain a bundle: what each layer of its model costs, and what is left of the original."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edgepack.bundle import Bundle, read_bundle
from edgepack.bundle.manifest import Variant
from edgepack.bundle.update_base import GridEntry
from edgepack.codec.types import Profile
from edgepack.core.types import Progress, Silent
from edgepack.explain.account import Account, LayerAccount, Quality
from edgepack.explain.build import KeptBuild, kept_build
from edgepack.explain.facts import Sensitivity
from edgepack.explain.graph import Graph, graph_of
from edgepack.explain.layers import GraphLayer, LayerPart, layers_of
from edgepack.explain.names import grids_of, names_of, operations_of, output_sqnr_of, steps_of
from edgepack.explain.original import OriginalModel, original_of
from edgepack.explain.times import LayerTimes, layer_times
from edgepack.explain.weights import Weight, coded_bytes, coded_rest_bytes, histogram, read_weight, rounding_sqnr_db
from edgepack.plan import WORK_FOLDER

_NO_GRID = "the bundle states no grid of these weights (reports/grid.json)"
_NOT_MEASURED = "the build measured no tensor that this layer alone computes (reports/verify.json)"
_NOT_TIMED = "no operator of the profile leads to this layer: the runtime joined it with others, or names it otherwise"
_OTHER_SHAPE = "the original's weights have another shape, or aren't known as real values here"
_NO_WEIGHTS = "multiplies two computed tensors"


def explain(
    path: Path,
    *,
    target: str | None = None,
    work_folder: Path | None = None,
    profile: Profile = "small",
    latency: bool = False,
    sensitivity: Sensitivity | None = None,
    steps: bool = False,
    recipe: Path | None = None,
    progress: Progress | None = None,
) -> Account:
    """Every layer of a bundle's variant (None: its only one): parameters, MACs, bytes, bits once coded.

    `work_folder` is where the bundle was built (default: `.edgepack` beside the bundle's folder): it has the original. `profile` is the codec's: 'small'
    is what `edgepack pack` writes, 'fast' is about one per cent more bits in a fifth of the time. With `latency` the model runs here, and its operators are timed.
    With `sensitivity` the network runs on samples of the build's recipe (`recipe`; default: the file beside the work folder that the build read), with `steps` every model
    that the build's steps made is exported and judged; with `latency`, timed, too.
    Raises BundleError for a damaged bundle and for a model format that is not known here, UsageError for a target that it hasn't, EnvironmentProblem where no C
    compiler is there; with `latency` what `edgepack.opened.bench` raises; with `sensitivity` or `steps` UsageError where the build is not here, RecipeError and DataError.
    """
    progress = progress or Silent()
    bundle = read_bundle(path)
    variant = bundle.variant(target)
    times = layer_times(path, variant, work_folder=work_folder, progress=progress) if latency else None
    graph = _graph(bundle, variant)
    layers, rest = layers_of(graph)
    progress.start(f"Coding {bundle.manifest.name} {variant.target}", total=sum(map(len, graph.files.values())))
    coder = _Coder(graph, profile, progress)
    grids = grids_of(bundle, variant)
    names = names_of(layers, grids)
    folder = work_folder or path.resolve().parent.parent / WORK_FOLDER
    original, why_not = original_of(bundle, variant, folder, names, layers)
    reader = _Reader(graph=graph, grids=grids, coder=coder, original=original, times=times)
    measured = output_sqnr_of(bundle, variant, graph, layers), operations_of(bundle, variant, graph, layers)
    accounts = tuple(reader.account(*one) for one in zip(names, layers, *measured, strict=True))
    account = _account(bundle, variant, coder, accounts, rest, times, why_not)
    progress.done()
    if sensitivity is not None or steps:
        build = kept_build(bundle, variant, work_folder=folder, recipe=recipe, progress=progress)
        account = _with_build(account, build, sensitivity, steps=steps, latency=latency, progress=progress)
    return account


def _with_build(
    account: Account,
    build: KeptBuild,
    sensitivity: Sensitivity | None,
    *,
    steps: bool,
    latency: bool,
    progress: Progress,
) -> Account:
    """The account with what only the build's own models tell."""
    if sensitivity is not None:
        from edgepack.explain.losses import with_losses  # it loads torch, which nothing else here needs

        account = with_losses(account, build, sensitivity, progress)
    if steps:
        from edgepack.explain.steps import steps_of

        unknown = {name: reason for name, reason in account.unknown.items() if name != "steps"}
        account = replace(account, steps=steps_of(build, latency=latency, progress=progress), unknown=unknown)
    return account


def _graph(bundle: Bundle, variant: Variant) -> Graph:
    about = variant.model
    paths = [about.path, *(one.path for one in about.companions)]
    files = {PurePosixPath(one).name: bundle.read(one) for one in paths}
    return graph_of(PurePosixPath(about.path).name, files)


def _account(
    bundle: Bundle,
    variant: Variant,
    coder: _Coder,
    layers: tuple[LayerAccount, ...],
    rest: Sequence[LayerPart],
    times: LayerTimes | None,
    why_not: str | None,
) -> Account:
    """The layers with what is told of the model as a whole."""
    structure = _structure(coder.graph)
    return Account(
        title=f"{bundle.manifest.name} {bundle.manifest.version} {variant.target}",
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        target=variant.target,
        format=variant.model.format,
        precision=variant.model.precision_spoken,
        profile=coder.profile,
        model_bytes=sum(map(len, coder.graph.files.values())),
        layers=layers,
        other_constants_bytes=sum(part.constant.found.size_bytes for part in rest),
        other_constants_coded_bytes=sum(coder.coded(part) for part in rest),
        structure_bytes=len(structure),
        structure_coded_bytes=coder.coded_structure(structure),
        original_bytes=_original_bytes(variant),
        latency_ms=None if times is None else times.total_ms,
        quality=_quality(variant),
        unknown=_unknown(variant, why_not, times),
    )


@dataclass(frozen=True, slots=True)
class _Coder:
    """Codes tensors, and tells how far it is."""

    graph: Graph
    profile: Profile
    progress: Progress

    def coded(self, part: LayerPart) -> int:
        found = part.constant.found
        size_bytes = coded_bytes(self.graph.files[part.constant.file], found, self.profile)
        self.progress.advance(found.size_bytes)
        return size_bytes

    def coded_structure(self, structure: bytes) -> int:
        size_bytes = coded_rest_bytes(structure, "what is no tensor", self.profile)
        self.progress.advance(len(structure))
        return size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Makes a layer's account."""

    graph: Graph
    grids: Mapping[str, GridEntry]
    coder: _Coder
    original: OriginalModel | None
    times: LayerTimes | None

    def account(
        self, name: str, layer: GraphLayer, output_sqnr_db: float | None, operation: str | None
    ) -> LayerAccount:
        parts = layer.parts
        weights = [self._weight(name, part) for part in parts if part.role == "weight"]
        biases = [self._weight("", part) for part in parts if part.role == "bias"]
        count = sum(one.codes.size for one in weights)
        zeros = sum(int(one.is_zero.sum()) for one in weights)
        coded = [(part, self.coder.coded(part)) for part in parts]
        weight_bytes = sum(size for part, size in coded if part.role == "weight")
        rounding = rounding_sqnr_db(weights)
        latency_ms = None if self.times is None or operation is None else self.times.of.get(operation)
        original = None if self.original is None else self.original.layer(name, weights)
        unknown = {} if original is None or original.change_sqnr_db is not None else {"change_sqnr_db": _OTHER_SHAPE}
        return LayerAccount(
            name=name,
            kind=layer.node.kind,
            weights=count,
            parameters=count + sum(one.codes.size for one in biases),
            nonzero_parameters=count - zeros + sum(int((~one.is_zero).sum()) for one in biases),
            macs=layer.macs,
            file_bytes=sum(part.constant.found.size_bytes for part in parts),
            coded_bytes=sum(size for _, size in coded),
            bits_per_weight=8 * weight_bytes / count if count else None,
            distinct_codes=_distinct(weights),
            sparsity=zeros / count if count else None,
            rounding_sqnr_db=rounding,
            output_sqnr_db=output_sqnr_db,
            latency_ms=latency_ms,
            histogram=histogram(weights),
            original=original,
            unknown=unknown
            | _unknown_of_layer(
                layer, weights, rounding, output_sqnr_db, self.times is not None and latency_ms is None
            ),
        )

    def _weight(self, name: str, part: LayerPart) -> Weight:
        steps = steps_of(name, self.grids, self.graph.files) if name else None
        return read_weight(self.graph.files[part.constant.file], part.constant.found, steps)


def _unknown_of_layer(
    layer: GraphLayer, weights: Sequence[Weight], rounding: float | None, output: float | None, lost: bool
) -> dict[str, str]:
    is_float = any(one.steps is None and one.values is not None for one in weights)
    unknown = _without_none(
        macs=layer.macs_unknown,
        rounding_sqnr_db=None if rounding is not None else "float weights aren't rounded" if is_float else _NO_GRID,
        output_sqnr_db=_NOT_MEASURED if output is None else None,
        latency_ms=_NOT_TIMED if lost else None,
    )
    without = ("bits_per_weight", "distinct_codes", "sparsity", "rounding_sqnr_db")
    return unknown if weights else unknown | dict.fromkeys(without, _NO_WEIGHTS)


def _distinct(weights: Sequence[Weight]) -> int | None:
    import numpy as np

    return int(np.unique(np.concatenate([one.codes.ravel() for one in weights])).size) if weights else None


def _structure(graph: Graph) -> bytes:
    """The bytes of the files that are in no constant, one after the other."""
    kept = {name: bytearray(data) for name, data in graph.files.items()}
    places = {one.place: one for one in graph.constants.values()}
    for one in sorted(places.values(), key=lambda one: -one.found.offset):
        del kept[one.file][one.found.offset : one.found.offset + one.found.size_bytes]
    return b"".join(bytes(one) for one in kept.values())


def _quality(variant: Variant) -> Quality | None:
    metric = variant.metric
    if metric is None:
        return None
    low_high = None if metric.ci95 is None else (float(metric.ci95[0]), float(metric.ci95[1]))
    return Quality(
        metric=metric.name,
        value=metric.value,
        float_value=metric.float_value,
        samples=metric.samples,
        ci95=low_high,
    )


def _original_bytes(variant: Variant) -> int | None:
    lineage = variant.lineage.get("float_model")
    size = lineage.get("size_bytes") if isinstance(lineage, dict) else None
    return int(size) if isinstance(size, (int, float)) and math.isfinite(size) else None


def _unknown(variant: Variant, why_not: str | None, times: LayerTimes | None) -> dict[str, str]:
    return _without_none(
        original=why_not,
        quality="the bundle states no metric: it was built without labelled samples"
        if variant.metric is None
        else None,
        original_bytes="the bundle's lineage has no float model" if _original_bytes(variant) is None else None,
        loss="a bundle keeps the metric of its evaluation samples, not their loss",
        latency_ms="not measured: ask for it with --latency" if times is None else None,
        losses="not measured: ask for it with --sensitivity",
        steps="not measured: ask for it with --steps",
    )


def _without_none(**reasons: str | None) -> dict[str, str]:
    return {name: reason for name, reason in reasons.items() if reason is not None}
