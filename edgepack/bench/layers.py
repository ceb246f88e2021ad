"""Which layer of the source model an operator of a file computes: the one whose tensor it writes, or leads to first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

from edgepack.core.errors import BundleError

_HOPS_MAX = 8
Following = Mapping[str, list[str]]


def layers_of(model: Path, format_: str, tensors: Mapping[str, str]) -> dict[str, str]:
    """The source model's operation by the name of a tensor or an operator of the file.

    `tensors` has it for the tensors with a grid (`reports/tensors.json` of a bundle). An operator that writes no such tensor itself (a convolution before its
    activation) belongs to the first one behind it, in at most 8 steps. Raises BundleError for a file that can't be read.
    """
    if format_ not in _READERS:
        return dict(tensors)
    try:
        following = _READERS[format_](model)
    except (ElementTree.ParseError, KeyError, ValueError) as exc:
        raise BundleError(f"{model.name}: its graph can't be read ({exc}); build the bundle again") from exc
    found = dict(tensors)
    for name in following:
        if (layer := _first_behind(name, following, tensors)) is not None:
            found[name] = layer
    return found


def _first_behind(name: str, following: Following, tensors: Mapping[str, str]) -> str | None:
    front = [name]
    for _ in range(_HOPS_MAX):
        for one in front:
            if one in tensors:
                return tensors[one]
        front = [behind for one in front for behind in following.get(one, ())]
    return None


def _of_onnx(model: Path) -> Following:
    """An operator leads to its outputs, a tensor to the operators that read it; a tensor's codes lead to it by way of their DequantizeLinear."""
    import onnx

    following: dict[str, list[str]] = defaultdict(list)
    for node in onnx.load(str(model), load_external_data=False).graph.node:
        following[node.name] += node.output
        for name in node.input:
            following[name].append(node.name)
    return following


def _of_ir(model: Path) -> Following:
    """An OpenVINO IR (opset XML, version 11): <layers> with id and name, <edges> between ids."""
    root = ElementTree.parse(model).getroot()
    names = {layer.attrib["id"]: layer.attrib["name"] for layer in root.iterfind("layers/layer")}
    following: dict[str, list[str]] = {name: [] for name in names.values()}
    for edge in root.iterfind("edges/edge"):
        following[names[edge.attrib["from-layer"]]].append(names[edge.attrib["to-layer"]])
    return following


_READERS: Mapping[str, Callable[[Path], Following]] = {"onnx": _of_onnx, "openvino": _of_ir}
