"""The layers of a graph: operators that multiply by weights, with the constants that belong to each, and how often they multiply."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edgepack.explain.graph import Constant, Graph, Node, Shape

Role = Literal["weight", "bias", "other"]
_CONVOLUTIONS = {
    "conv": 1,
    "conv2d": 1,
    "conv3d": 1,
    "convinteger": 1,
    "convolution": 1,
    "depthwiseconv2d": 1,
    "groupconvolution": 1,
    "qlinearconv": 3,
}
_TRANSPOSED = {"convtranspose": 1, "convolutionbackpropdata": 1, "groupconvolutionbackpropdata": 1, "transposeconv": 1}
_PRODUCTS = {"fullyconnected": 1, "gemm": 1, "matmul": 1, "batchmatmul": 1, "matmulinteger": 1, "qlinearmatmul": 3}
_LOOKED_UP = {"gather": 0, "embeddinglookup": 1}
# What weighs but is counted in no simple way; its MACs stay unknown.
_RECURRENT = {"lstm", "gru", "rnn", "unidirectionalsequencelstm", "lstmsequence", "grusequence"}
_WEIGHT_PLACE = {**_CONVOLUTIONS, **_TRANSPOSED, **_PRODUCTS, **_LOOKED_UP}
_SCALED = {"dequantizelinear", "quantizelinear", "fakequantize"}  # inputs behind the first are a grid
_SHIFTS = {"add", "sub"}
_FACTORS = {"mul", "multiply", "prelu", "batchnormalization"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPart:
    """A constant of a layer: a weight, a bias (or another learned vector), or something else such as scales."""

    tensor: str
    role: Role
    constant: Constant


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphLayer:
    """An operator that has weights, or multiplies two computed tensors. `macs` for one sample; None where unknown, with the reason."""

    node: Node
    macs: int | None
    macs_unknown: str | None
    parts: tuple[LayerPart, ...]


def layers_of(graph: Graph) -> tuple[tuple[GraphLayer, ...], tuple[LayerPart, ...]]:
    """The layers in order of execution, and the constants that belong to none. Each stretch of a file is counted once, where it is read first."""
    computed = _computed(graph)
    reader = _PartReader(graph, computed)
    layer_of: dict[str, int] = {}  # by tensor: the last layer on the way to it
    weighing: list[Node] = []
    parts: dict[int, list[LayerPart]] = {-1: []}
    for node in graph.nodes:
        data = [name for name in node.inputs if name in computed]
        if not data:
            continue  # computed from constants alone: its readers have its constants
        if _is_layer(node, computed):
            weighing.append(node)
            number = len(weighing) - 1
        else:
            number = layer_of.get(data[0], -1)
        layer_of |= dict.fromkeys(node.outputs, number)
        parts.setdefault(number, []).extend(reader.parts(node))
    layers = tuple(_layer(graph, node, tuple(parts.get(number, ()))) for number, node in enumerate(weighing))
    return layers, (*parts[-1], *reader.rest())


def _is_layer(node: Node, computed: set[str]) -> bool:
    if node.kind in _RECURRENT or node.kind in _PRODUCTS:
        return True
    place = _WEIGHT_PLACE.get(node.kind)
    return place is not None and place < len(node.inputs) and node.inputs[place] not in computed


def _computed(graph: Graph) -> set[str]:
    """Tensors that depend on the model's inputs."""
    computed = set(graph.inputs)
    for node in graph.nodes:
        if any(name in computed for name in node.inputs):
            computed.update(node.outputs)
    return computed


class _PartReader:
    """Finds the constants that reach an operator, and remembers which were found."""

    def __init__(self, graph: Graph, computed: set[str]) -> None:
        self.graph, self.computed = graph, computed
        self.makers = {name: one for one in graph.nodes for name in one.outputs if name not in computed}
        self.seen: set[tuple[str, int]] = set()

    def parts(self, node: Node) -> Iterator[LayerPart]:
        """The constants of an operator, each with its role there."""
        for place, name in enumerate(node.inputs):
            if not name or name in self.computed:
                continue
            waiting: list[tuple[str, Role]] = [(name, _role(node, place))]
            while waiting:
                tensor, role = waiting.pop()
                yield from self._part(tensor, role)
                if (maker := self.makers.get(tensor)) is not None:
                    waiting += [(one, role if at == 0 else "other") for at, one in enumerate(maker.inputs) if one]

    def rest(self) -> Iterator[LayerPart]:
        """The constants that no operator reads, such as the scales of a `.tflite`'s activations."""
        for name in self.graph.constants:
            yield from self._part(name, "other")

    def _part(self, tensor: str, role: Role) -> Iterator[LayerPart]:
        constant = self.graph.constants.get(tensor)
        if constant is None or constant.place in self.seen:
            return
        self.seen.add(constant.place)
        is_number = role == "bias" and math.prod(constant.found.shape) == 1  # the 3 and the 6 of a hard swish
        yield LayerPart(tensor=tensor, role="other" if is_number else role, constant=constant)
        yield from self._part(f"{tensor}/scale", "other")  # as the reader of .tflite files calls them


def _role(node: Node, place: int) -> Role:
    if node.kind in _RECURRENT or place == _WEIGHT_PLACE.get(node.kind):
        return "weight"
    if node.kind in _WEIGHT_PLACE:
        is_bias = place == (8 if node.kind == "qlinearconv" else 3 if node.kind == "transposeconv" else 2)
        return "bias" if is_bias else "other"
    if node.kind in _SCALED:
        return "other"
    return "bias" if node.kind in _SHIFTS | _FACTORS else "other"


def _layer(graph: Graph, node: Node, parts: tuple[LayerPart, ...]) -> GraphLayer:
    macs, unknown = _macs(graph, node)
    return GraphLayer(node=node, macs=macs, macs_unknown=unknown, parts=parts)


def _macs(graph: Graph, node: Node) -> tuple[int | None, str | None]:
    """Multiplications with weights (or of two computed tensors) for one sample; a shape's first size counts as it stands in the file."""
    if node.kind in _RECURRENT:
        return None, f"the steps of '{node.kind}' are not in the file"
    if node.kind in _LOOKED_UP:
        return 0, None
    place = _WEIGHT_PLACE[node.kind]
    data = 0 if node.kind not in ("transposeconv",) else 2
    shapes = [graph.shapes.get(name) for name in (node.inputs[data], node.inputs[place], node.outputs[0])]
    if any(shape is None for shape in shapes):
        return None, "the file states no fixed shape for it"
    return _count(node, [shape or () for shape in shapes]), None


def _count(node: Node, shapes: Sequence[Shape]) -> int:
    given, weights, result = shapes
    channels_last = node.kind in ("conv2d", "depthwiseconv2d", "transposeconv", "conv3d")
    elements = math.prod(weights)
    if node.kind in _CONVOLUTIONS:
        return math.prod(result) // result[-1 if channels_last else 1] * elements
    if node.kind in _TRANSPOSED:
        return math.prod(given) // given[-1 if channels_last else 1] * elements
    if len(weights) <= 2:
        return math.prod(result) // result[-1] * elements
    # (…, m, k) × (…, k, n): the product of the operands' sizes over the result's is k² times the batch.
    batch = math.prod(result[:-2])
    shared = math.isqrt(math.prod(given) * elements // max(1, math.prod(result) * batch))
    return math.prod(result) * shared
