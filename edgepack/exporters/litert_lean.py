"""A LiteRT file without what only its converter needs: tensors are called as in the source model, and equal vectors are stored once.

The converter calls a tensor by the classes of all modules around it ('m.Net/torch.nn.modules.container.Sequential_stem/…'), 100 to 600 bytes each, and every
channel's zero point, eight bytes of zeros, stands there for weights and biases alike. Neither is needed to run the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np

from edgepack.core.types import Array
from edgepack.exporters.litert_graph import Graph, read_graph

_IDENTIFIER = b"TFL3"


def lean(content: bytes, parameters: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    """The same model in fewer bytes, and the new name of each tensor by its old one.

    `parameters` has the source model's name of each weight ('stem.0.weight') by the tensor's name. Its layer's output is called after the layer
    ('stem.0'), inputs and outputs as in the signature, the rest by their number ('#7'). Every name is there once.
    """
    model, graph = read_graph(content)
    tensors = model.subgraphs[0].tensors
    names = _names(model, graph, parameters)
    for index, tensor in enumerate(tensors):
        tensor.name = names[index].encode()
    return _written(model), dict(zip(graph.names, names, strict=True))


def _names(model: Any, graph: Graph, parameters: Mapping[str, str]) -> list[str]:
    wanted: dict[int, str] = {}
    for operator in graph.operators:
        weight = next((i for i in operator.inputs if i >= 0 and graph.names[i] in parameters), None)
        if weight is not None:
            name = parameters[graph.names[weight]]
            wanted[weight] = name
            if name.endswith(".weight"):
                wanted.setdefault(operator.outputs[0], name.removesuffix(".weight"))
    for signature in model.signatureDefs or ():
        wanted |= {int(item.tensorIndex): item.name.decode() for item in (*signature.inputs, *signature.outputs)}
    counts = Counter(wanted.values())
    return [
        wanted[index] if counts[wanted.get(index, "")] == 1 else f"{wanted.get(index, '')}#{index}"
        for index in range(len(graph.names))
    ]


def _written(model: Any) -> bytes:
    """As a FlatBuffer in which equal vectors are one: zero points first, then scales, so that what is alike lies together."""
    builder = _Sharing(1024)
    grids = [t.quantization for t in model.subgraphs[0].tensors if t.quantization is not None]
    for vectors in ([grid.zeroPoint for grid in grids], [grid.scale for grid in grids]):
        for vector in vectors:
            if isinstance(vector, np.ndarray):
                builder.CreateNumpyVector(vector)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


class _Sharing(flatbuffers.Builder):  # type: ignore[misc]  # the library has no types
    """A builder that writes a vector or text once. Weights, which are bytes, stay apart: a delegate tells them by their address."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._known: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802  # the library's name
        if x.dtype == np.uint8:
            return int(super().CreateNumpyVector(x))
        key = (x.dtype.str, x.tobytes())
        if key not in self._known:
            self._known[key] = super().CreateNumpyVector(x)
        return self._known[key]
