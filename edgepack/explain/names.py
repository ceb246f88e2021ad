"""The layers of a file by the names that the source model gives them, and by what the build's reports say of them."""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from edgepack.bundle import Bundle, report_name
from edgepack.bundle.manifest import Variant
from edgepack.bundle.update_base import GRID_NAME, GridEntry, GridReport
from edgepack.explain.graph import Graph
from edgepack.explain.layers import GraphLayer
from edgepack.explain.weights import Steps

Value = TypeVar("Value")
_STEPS_MAX = 8  # from a layer to its rounded result: scale, bias, activation, quantize, dequantize
_OWN_NAME = re.compile(r"^(?P<layer>.+)\.weight(/codes)?$")
# LiteRT's converter: 'model.Net/torch.nn.modules.container.Sequential_stem/torch.nn.modules.conv.Conv2d_0;1'.
_CONVERTED = re.compile(r"^[^;]*?/(?P<path>[^;]+);")


def grids_of(bundle: Bundle, variant: Variant) -> Mapping[str, GridEntry]:
    """The grids of the weights by parameter name, as reports/grid.json of a quantized model states them; {} where there is none."""
    name = report_name(bundle, variant, PurePosixPath(GRID_NAME).name)
    return {} if name is None else GridReport.model_validate_json(bundle.read(name)).weights


def grid_targets_of(bundle: Bundle, variant: Variant) -> tuple[str, ...]:
    """The targets whose common grid a quantized model has; () where the bundle states none."""
    name = report_name(bundle, variant, PurePosixPath(GRID_NAME).name)
    return () if name is None else tuple(GridReport.model_validate_json(bundle.read(name)).targets)


def names_of(layers: Sequence[GraphLayer], grids: Mapping[str, GridEntry]) -> tuple[str, ...]:
    """A name for each layer, each once: the source model's where the file or its grid leads to it, else the file's own."""
    by_place: dict[tuple[str, int], str] = {
        (entry.file, entry.offset): name for name, entry in grids.items() if entry.file
    }
    found = [_name(layer, by_place) for layer in layers]
    counts: Counter[str] = Counter()
    names = []
    for name in found:
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return tuple(names)


def _name(layer: GraphLayer, by_place: Mapping[tuple[str, int], str]) -> str:
    for part in layer.parts:
        if part.constant.place in by_place:
            return by_place[part.constant.place].removesuffix(".weight")
    for part in layer.parts:
        if part.role == "weight" and (match := _OWN_NAME.match(part.tensor)):
            return match["layer"]
        if part.role == "weight" and (match := _CONVERTED.match(part.tensor)):
            return ".".join(step.rpartition(".")[2].partition("_")[2] or step for step in match["path"].split("/"))
    return layer.node.name.split(";")[0] or layer.node.kind


def steps_of(name: str, grids: Mapping[str, GridEntry], files: Mapping[str, bytes]) -> Steps | None:
    """The grid of a layer's weight; None where the bundle states none."""
    entry = grids.get(f"{name}.weight", grids.get(name))
    if entry is None:
        return None
    scale = entry.scale
    if scale is None:
        end = entry.offset + 4 * entry.count
        content = files.get(entry.file or "", b"")
        if end > len(content):
            return None
        scale = tuple(np.frombuffer(content[entry.offset : end], "<f4").tolist())
    return Steps(scale=scale, zero_point=entry.zero_point or (0,) * len(scale))


def output_sqnr_of(
    bundle: Bundle, variant: Variant, graph: Graph, layers: Sequence[GraphLayer]
) -> tuple[float | None, ...]:
    """For each layer the signal-to-noise ratio of its output that the build measured (reports/verify.json), in dB."""
    name = report_name(bundle, variant, "verify.json")
    content = json.loads(bundle.read(name)) if name is not None else {}
    measured = {str(one["tensor"]): float(one["sqnr_db"]) for one in content.get("layers", ())}
    return at_outputs(graph, layers, measured)


def operations_of(
    bundle: Bundle, variant: Variant, graph: Graph, layers: Sequence[GraphLayer]
) -> tuple[str | None, ...]:
    """For each layer the operation of the network that its rounded output is (reports/tensors.json), by which profiles name it."""
    name = report_name(bundle, variant, "tensors.json")
    content = json.loads(bundle.read(name)) if name is not None else {}
    return at_outputs(graph, layers, {str(tensor): str(one["operation"]) for tensor, one in content.items()})


def at_outputs(graph: Graph, layers: Sequence[GraphLayer], known: Mapping[str, Value]) -> tuple[Value | None, ...]:
    """What is known of the first tensor from each layer's output on, before another layer's output comes."""
    after: dict[str, list[str]] = {}
    for node in graph.nodes:
        for given in node.inputs:
            after.setdefault(given, []).extend(node.outputs)
    others = {output for layer in layers for output in layer.node.outputs}
    return tuple(_nearest(layer.node.outputs[0], known, after, others) for layer in layers)


def _nearest(tensor: str, known: Mapping[str, Value], after: Mapping[str, list[str]], others: set[str]) -> Value | None:
    waiting, seen = deque([(tensor, 0)]), {tensor}
    while waiting:
        here, steps = waiting.popleft()
        if here in known:
            return known[here]
        for following in after.get(here, ()) if steps < _STEPS_MAX else ():
            if following not in seen and following not in others:
                seen.add(following)
                waiting.append((following, steps + 1))
    return None
