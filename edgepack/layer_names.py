"""From the names in a profile to the layers of the source model: what a file calls an operator is its exporter's and runtime's affair.

A bundle's reports/tensors.json says which operation of the model each quantized tensor of the file holds. An operator belongs to the first such
tensor that comes out of it, through rounding, bias and activation, which the runtime does in the same kernel.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgepack.records import LayerTime

_STEPS_MAX = 8  # from an operator to its rounded result: scale, bias, activation, quantize, dequantize
# ONNX Runtime names a node that it made of several after one of them: 'node_conv2d_token_0', 'conv_quant', 'add_nchwc'.
_MADE = re.compile(r"(_token_\d+|_quant|_nchwc|_nhwc)+$")

Names = Mapping[str, Sequence[str]]


def with_source_layers(
    profile: Sequence[LayerTime], model: Path, tensors: Mapping[str, Mapping[str, Any]]
) -> tuple[LayerTime, ...]:
    """The profile with `source_layer` where the file's names lead to one. `tensors` is the content of reports/tensors.json."""
    operation = {name: str(entry["operation"]) for name, entry in tensors.items()}
    following = _FOLLOWING[model.suffix](model) if model.suffix in _FOLLOWING else {}

    def layer(name: str) -> str | None:
        known = name if name in operation or name in following else _MADE.sub("", name)
        return _first(known, operation, following)

    return tuple(replace(one, source_layer=layer(one.name)) for one in profile)


def _first(name: str, operation: Mapping[str, str], following: Names) -> str | None:
    """The operation of the nearest tensor from a name on."""
    waiting, seen = deque([(name, 0)]), {name}
    while waiting:
        here, steps = waiting.popleft()
        if here in operation:
            return operation[here]
        for after in following.get(here, ()) if steps < _STEPS_MAX else ():
            if after not in seen:
                seen.add(after)
                waiting.append((after, steps + 1))
    return None


def _following_onnx(path: Path) -> Names:
    """A node's name to its outputs, a tensor's name to the outputs of the nodes that read it."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    after: dict[str, list[str]] = {}
    for node in graph.node:
        after.setdefault(node.name, []).extend(node.output)
        for name in node.input:
            after.setdefault(name, []).extend(node.output)
    return after


def _following_ir(path: Path) -> Names:
    """A layer's name to those of the layers that read it."""
    root = ElementTree.parse(path).getroot()
    names = {layer.get("id"): str(layer.get("name")) for layer in root.iterfind("layers/layer")}
    after: dict[str, list[str]] = {}
    for edge in root.iterfind("edges/edge"):
        after.setdefault(names[edge.get("from-layer")], []).append(names[edge.get("to-layer")])
    return after


_FOLLOWING: Mapping[str, Callable[[Path], Names]] = {".onnx": _following_onnx, ".xml": _following_ir}
