"""Embedding tables of a .tflite in int8: a row that is looked up is copied, so table and outcome have one grid, that of the outcome.

ai-edge-quantizer leaves the lookup in float, with a QUANTIZE behind it; rounding the table itself gives the same codes, in a quarter of the bytes
and without an operator that the float graph has not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.core.types import Array, QuantParams
from edgepack.exporters.litert_graph import Graph, Operator

LOOKUP = "EMBEDDING_LOOKUP"
_INT8 = 9


def quantizers_of(lookup: Operator, graph: Graph) -> list[Operator]:
    """The QUANTIZE operators behind a lookup; [] where something else reads its outcome, too."""
    readers = [operator for operator in graph.operators if lookup.outputs[0] in operator.inputs]
    only = all(operator.kind == "QUANTIZE" for operator in readers) and lookup.outputs[0] not in graph.outputs
    return readers if only else []


def quantize_tables(model: Any, graph: Graph, params_of: dict[str, QuantParams]) -> list[str]:
    """Round each table to the grid of its lookup's outcome, and take the QUANTIZE behind it out. Answers with notes.

    `params_of` has the grids by tensor name. A table that two lookups with different grids share stays in float.
    """
    subgraph = model.subgraphs[0]
    lookups = [operator for operator in graph.operators if operator.kind == LOOKUP]
    grids: dict[int, set[QuantParams]] = {}
    for lookup in lookups:
        grids.setdefault(lookup.inputs[1], set()).add(params_of[graph.names[lookup.outputs[0]]])
    notes: list[str] = []
    removed: list[int] = []
    for lookup in lookups:
        table, outcome = lookup.inputs[1], lookup.outputs[0]
        quantizers = quantizers_of(lookup, graph)
        if len(grids[table]) > 1 or table not in graph.constants or not quantizers:
            notes.append(f"{graph.names[outcome]}: this embedding table stays in float")
            continue
        (params,) = grids[table]
        _round(model, table, graph.constants[table], params)
        _set_grid(subgraph.tensors[outcome], params)
        for quantizer in quantizers:
            removed.append(graph.operators.index(quantizer))
            _rename(subgraph, quantizer.outputs[0], outcome)
    for index in sorted(removed, reverse=True):
        del subgraph.operators[index]
    return notes


def _round(model: Any, index: int, values: Array, params: QuantParams) -> None:
    tensor = model.subgraphs[0].tensors[index]
    codes = np.clip(np.rint(values / params.scale[0]) + params.zero_point[0], -128, 127).astype(np.int8)
    model.buffers[tensor.buffer].data = np.frombuffer(codes.tobytes(), np.uint8)
    _set_grid(tensor, params)


def _set_grid(tensor: Any, params: QuantParams) -> None:
    from ai_edge_litert import schema_py_generated as schema  # the converter's own classes of the file format

    tensor.type = _INT8
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.array(params.scale, np.float32)
    tensor.quantization.zeroPoint = np.array(params.zero_point, np.int64)


def _rename(subgraph: Any, old: int, new: int) -> None:
    for operator in subgraph.operators:
        if operator.inputs is not None:
            operator.inputs = [new if int(index) == old else int(index) for index in operator.inputs]
    subgraph.outputs = [new if int(index) == old else int(index) for index in subgraph.outputs]
