"""Weights of few bits in an ONNX graph that computes in float: codes → Cast → Sub → Mul → Reshape, all of constants.

A runtime computes these once, when it loads the model (ONNX Runtime 1.31 does), and then multiplies with float weights: the file is small, arithmetic and
speed are those of the float model. DequantizeLinear would say the same in one node; ONNX Runtime then rounds the activations to 8 bits, too (its
MatMulNBits), which nobody asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Array
from edgepack.exporters.onnx_graph import Graph, make_node
from edgepack.network.program import Layer
from edgepack.network.weight_grids import WeightGrid, folded


def write_codes(
    graph: Graph, layers: tuple[Layer, ...], grids: Mapping[str, WeightGrid], *, as_int4: bool
) -> tuple[str, ...]:
    """Put codes in the place of float weights, found by their values, as they are or transposed. Answers the operators that this adds.

    `as_int4` stores codes of four bits two in a byte, which needs operator set 21; without, each has one.

    Raises UnsupportedError where a weight is not in the graph: a batch norm was folded into it.
    """
    places = folded(grids, layers)
    nodes: list[Any] = []
    found: set[str] = set()
    for constant, array in list(graph.constants.items()):
        place, turned = _place(places, array)
        if place is not None and array.dtype == np.float32:
            found.add(place[0])
            del graph.constants[constant]
            nodes += _real(graph, *place, constant, turned=turned, as_int4=as_int4)
    if missing := [name for name in grids if name not in found]:
        raise UnsupportedError(
            f"{', '.join(missing)}: these weights are not in the converted model as they were rounded (a batch norm is folded into them?); "
            "name their layers in float_layers of compress_weights, or quantize"
        )
    graph.nodes = [*nodes, *graph.nodes]
    return tuple(node.op_type for node in nodes)


def _place(places: Mapping[bytes, tuple[str, WeightGrid]], array: Array) -> tuple[tuple[str, WeightGrid] | None, bool]:
    """The weight that a constant is, with its name, and whether the exporter transposed it."""
    as_it_is = places.get(np.ascontiguousarray(array).tobytes())
    if as_it_is is not None and as_it_is[1].shape == array.shape:
        return as_it_is, False
    turned = places.get(np.ascontiguousarray(array.T).tobytes()) if array.ndim == 2 else None
    return turned, turned is not None


def _real(graph: Graph, name: str, grid: WeightGrid, output: str, *, turned: bool, as_int4: bool) -> list[Any]:
    """The nodes that make the tensor `output` of a weight's codes."""
    from onnx import TensorProto

    chain: list[tuple[str, list[str], dict[str, Any]]] = [("Cast", [], {"to": TensorProto.FLOAT})]
    nodes = []
    if grid.zero_point is not None:
        nodes.append(_as_float(graph, f"{name}/zero_point", _stored(grid.zero_point, grid, as_int4)))
        chain.append(("Sub", [nodes[-1].output[0]], {}))
    nodes.append(_as_float(graph, f"{name}/scale", grid.scale))
    chain.append(("Mul", [nodes[-1].output[0]], {}))
    if tuple(grid.codes.shape) != grid.shape:
        chain.append(("Reshape", [graph.constant(f"{name}/shape", np.array(grid.shape, np.int64))], {}))
    if turned:
        chain.append(("Transpose", [], {"perm": [1, 0]}))
    current = graph.constant(f"{name}/codes", _stored(grid.codes, grid, as_int4))
    for index, (kind, others, attributes) in enumerate(chain):
        made = output if index == len(chain) - 1 else graph.fresh(f"{name}/{kind.lower()}")
        nodes.append(make_node(kind, [current, *others], [made], **attributes))
        current = made
    return nodes


def _as_float(graph: Graph, name: str, array: Array) -> Any:
    from onnx import TensorProto

    return make_node("Cast", [graph.constant(name, array)], [graph.fresh(f"{name}/float")], to=TensorProto.FLOAT)


def _stored(array: Array, grid: WeightGrid, as_int4: bool) -> Array:
    """Codes of four bits in the type that packs two into a byte."""
    import ml_dtypes

    if grid.bits == 8 or not as_int4:
        return array
    return array.astype(ml_dtypes.int4 if grid.zero_point is None else ml_dtypes.uint4)
