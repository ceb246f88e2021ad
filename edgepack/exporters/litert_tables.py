"""Embedding tables of a .tflite in int8: a row that is looked up is copied, so table and outcome have one grid, that of the outcome.

ai-edge-quantizer leaves the lookup in float, with a QUANTIZE behind it; rounding the table itself gives the same codes, in a quarter of the bytes
and without an operator that the float graph has not. A table of four bits keeps the QUANTIZE: the kernel that reads one (LiteRT 2.3) gives real values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.core.nibbles import packed
from edgepack.core.types import Array, QuantParams
from edgepack.exporters.litert_graph import Graph, Operator, read_graph

LOOKUP = "EMBEDDING_LOOKUP"
_INT8, _INT4 = 9, 17
_INT4_VERSION = 4  # an older runtime would open the file, and fail when it runs


def quantizers_of(lookup: Operator, graph: Graph) -> list[Operator]:
    """The QUANTIZE operators behind a lookup; [] where something else reads its outcome, too."""
    readers = [operator for operator in graph.operators if lookup.outputs[0] in operator.inputs]
    only = all(operator.kind == "QUANTIZE" for operator in readers) and lookup.outputs[0] not in graph.outputs
    return readers if only else []


def quantize_tables(model: Any, graph: Graph, params_of: dict[str, QuantParams], *, as_int4: bool) -> list[str]:
    """Round each table to the grid of its lookup's outcome, and take the QUANTIZE behind it out. Answers with notes.

    `params_of` has the grids by tensor name. With `as_int4`, codes of four bits are stored so. A table that two lookups with different grids share stays in float.
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
        codes = _codes(graph.constants[table], params)
        is_narrow = params.zero_point[0] == 0 and codes.min() >= -8 and codes.max() <= 7
        if is_narrow and not as_int4:
            notes.append(
                f"{graph.names[outcome]}: this table of 4 bits is stored as int8: {LOOKUP} is not in this target's int4_operators"
            )
        if is_narrow and as_int4:
            _store(model, table, packed(codes), params, kind=_INT4)
            operator = subgraph.operators[graph.operators.index(lookup)]
            model.operatorCodes[operator.opcodeIndex].version = _INT4_VERSION
            continue
        _store(model, table, codes, params, kind=_INT8)
        _set_grid(subgraph.tensors[outcome], params)
        for quantizer in quantizers:
            removed.append(graph.operators.index(quantizer))
            _rename(subgraph, quantizer.outputs[0], outcome)
    for index in sorted(removed, reverse=True):
        del subgraph.operators[index]
    return notes


def quantizers_of_tables(content: bytes) -> tuple[str, ...]:
    """The QUANTIZE operators behind lookups in tables of four bits, which no float file has."""
    model, graph = read_graph(content)
    kinds = [model.subgraphs[0].tensors[one.inputs[1]].type for one in graph.operators if one.kind == LOOKUP]
    return ("QUANTIZE",) * kinds.count(_INT4)


def _codes(values: Array, params: QuantParams) -> Array:
    codes: Array = np.clip(np.rint(values / params.scale[0]) + params.zero_point[0], -128, 127).astype(np.int8)
    return codes


def _store(model: Any, index: int, codes: Array, params: QuantParams, *, kind: int) -> None:
    tensor = model.subgraphs[0].tensors[index]
    model.buffers[tensor.buffer].data = np.frombuffer(codes.tobytes(), np.uint8)
    _set_grid(tensor, params, kind=kind)


def _set_grid(tensor: Any, params: QuantParams, *, kind: int = _INT8) -> None:
    from ai_edge_litert import schema_py_generated as schema  # the converter's own classes of the file format

    tensor.type = kind
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.array(params.scale, np.float32)
    tensor.quantization.zeroPoint = np.array(params.zero_point, np.int64)


def _rename(subgraph: Any, old: int, new: int) -> None:
    for operator in subgraph.operators:
        if operator.inputs is not None:
            operator.inputs = [new if int(index) == old else int(index) for index in operator.inputs]
    subgraph.outputs = [new if int(index) == old else int(index) for index in subgraph.outputs]
