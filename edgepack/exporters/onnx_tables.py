"""Embedding tables as codes on the grid of what is looked up: a row is only copied, so rounding the table once gives the same codes.

A table whose codes fit four bits is stored so. Standard ONNX has no Gather on int4 (operator set 21), so the codes pass Casts to the codes of the
activation before it: ONNX Runtime (1.31) computes that once, when it loads the model, and looks up bytes as ever.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.core.types import Array
from edgepack.exporters.onnx_graph import Graph, make_node

INT4_OPSET = 21


def write_tables(graph: Graph, *, as_int4: bool) -> tuple[str, ...]:
    """Put codes in the place of every constant that a QuantizeLinear reads. Answers the operators that this adds.

    With `as_int4`, codes that fit four bits are stored so.
    """
    nodes: list[Any] = []
    added: list[Any] = []
    for node in graph.nodes:
        if node.op_type != "QuantizeLinear" or node.input[0] not in graph.constants:
            nodes.append(node)
            continue
        scale, zero = (graph.constants[name] for name in node.input[1:3])
        limits = np.iinfo(zero.dtype)
        values = graph.constants[node.input[0]].astype(np.float64)
        whole = np.rint(values / np.float64(scale)) + np.int64(zero)
        codes: Array = np.clip(whole, limits.min, limits.max).astype(zero.dtype)
        if as_int4 and graph.opset >= INT4_OPSET and fits_four_bits(codes, int(zero)):
            added += (made := _from_four_bits(graph, node.output[0], codes, int(zero)))
            nodes += made
        else:
            graph.constants[node.output[0]] = codes
    graph.nodes = nodes
    return tuple(node.op_type for node in added)


def fits_four_bits(codes: Array, zero_point: int) -> bool:
    """Whether every code lies at most 8 below and 7 above the zero point, as a table's with four bits do."""
    return int(codes.min()) - zero_point >= -8 and int(codes.max()) - zero_point <= 7


def _from_four_bits(graph: Graph, name: str, codes: Array, zero_point: int) -> list[Any]:
    """The nodes that make codes of a byte, called `name`, of four bits each."""
    import ml_dtypes
    from onnx import TensorProto

    kind = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}[codes.dtype.name]
    narrow = graph.constant(f"{name}/int4", (codes.astype(np.int32) - zero_point).astype(ml_dtypes.int4))
    wide, moved = graph.fresh(f"{name}/int32"), graph.fresh(f"{name}/moved")
    zero = graph.constant(f"{name}/zero_point", np.asarray(zero_point, np.int32))
    return [
        make_node("Cast", [narrow], [wide], to=TensorProto.INT32),
        make_node("Add", [wide, zero], [moved]),
        make_node("Cast", [moved], [name], to=kind),
    ]
