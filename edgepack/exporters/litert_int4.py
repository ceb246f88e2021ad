"""Weights of four bits in a .tflite, two codes a byte, for the operators whose kernels read them.

LiteRT 2.3 computes with them as with int8 ones, bit for bit, in CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED; XNNPACK has the fast kernels for
FULLY_CONNECTED alone. A 1×1 convolution without a stride is one: the product of each position's channels with a matrix.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np

from edgepack.core.nibbles import packed
from edgepack.exporters.litert_graph import Graph, Operator

Int4Operator = Literal["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP"]
_INT4 = 17
_VERSIONS = {"CONV_2D": 7, "DEPTHWISE_CONV_2D": 7, "FULLY_CONNECTED": 10}  # op_version.cc: the first that reads int4
_NOT_FUSED_BY_FULLY_CONNECTED = {4, 5}  # TANH, SIGN_BIT


def store_int4(
    model: Any, graph: Graph, layers: Mapping[int, str], operators: Collection[str]
) -> tuple[tuple[str, ...], list[str]]:
    """Pack the codes of these weights (by tensor index, with the layer's name) where every operator that reads one is among `operators`.

    Edits the FlatBuffer object `model`; the others stay int8 with codes -7 … 7. Answers with the operators that took another one's place, and notes.
    """
    left: dict[str, list[str]] = {}
    new: list[str] = []
    for weight, name in layers.items():
        readers = [operator for operator in graph.operators if weight in operator.inputs]
        if "FULLY_CONNECTED" in operators and all(_is_pointwise(model, graph, one) for one in readers):
            for one in readers:
                _make_fully_connected(model, graph, one)
                new.append("FULLY_CONNECTED")
            _pack(model, weight)
        elif all(one.kind in operators for one in readers):
            for one in readers:
                _raise_version(model, graph, one)
            _pack(model, weight)
        else:
            kind = next(one.kind for one in readers if one.kind not in operators)
            left.setdefault(kind, []).append(name)
    notes = [
        f"the 4-bit weights of {len(names)} {kind} layer(s) are stored as int8: {kind} is not in this target's int4_operators ({', '.join(names)})"
        for kind, names in left.items()
    ]
    return tuple(new), notes


def _pack(model: Any, index: int) -> None:
    tensor = model.subgraphs[0].tensors[index]
    buffer = model.buffers[tensor.buffer]
    buffer.data = packed(np.asarray(buffer.data, np.uint8).view(np.int8))
    tensor.type = _INT4


def _is_pointwise(model: Any, graph: Graph, operator: Operator) -> bool:
    """Whether a convolution is the product of each position with a matrix, that FULLY_CONNECTED computes."""
    if operator.kind != "CONV_2D":
        return False
    subgraph, options = model.subgraphs[0], _raw(model, graph, operator).builtinOptions
    given, weight = (subgraph.tensors[index].shape for index in operator.inputs[:2])
    return (
        list(weight[1:3]) == [1, 1]
        and int(weight[3]) == int(given[3])
        and options.strideH == options.strideW == 1
        and options.fusedActivationFunction not in _NOT_FUSED_BY_FULLY_CONNECTED
    )


def _make_fully_connected(model: Any, graph: Graph, operator: Operator) -> None:
    from ai_edge_litert import schema_py_generated as schema

    raw = _raw(model, graph, operator)
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = raw.builtinOptions.fusedActivationFunction
    options.keepNumDims = True
    raw.opcodeIndex = _code(model, schema.BuiltinOperator.FULLY_CONNECTED)
    raw.builtinOptionsType, raw.builtinOptions = schema.BuiltinOptions.FullyConnectedOptions, options
    weight = model.subgraphs[0].tensors[operator.inputs[1]]
    if len(weight.shape) > 2:  # not yet turned for another reader
        weight.shape = np.array([weight.shape[0], weight.shape[3]], np.int32)
        weight.shapeSignature = None
        weight.quantization.quantizedDimension = 0


def _code(model: Any, builtin: int) -> int:
    """The place of an operator's code with a version that reads int4, which is raised or added."""
    from ai_edge_litert import schema_py_generated as schema

    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin:
            code.version = max(code.version, _VERSIONS["FULLY_CONNECTED"])
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = _VERSIONS["FULLY_CONNECTED"]
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _raise_version(model: Any, graph: Graph, operator: Operator) -> None:
    code = model.operatorCodes[_raw(model, graph, operator).opcodeIndex]
    code.version = max(code.version, _VERSIONS[operator.kind])


def _raw(model: Any, graph: Graph, operator: Operator) -> Any:
    """The operator of the FlatBuffer object."""
    return model.subgraphs[0].operators[graph.operators.index(operator)]
