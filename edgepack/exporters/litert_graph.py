"""A .tflite file's graph as plain values: operators, tensors, constants, and one float run of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.core.errors import StageError
from edgepack.core.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator: its builtin name ('CONV_2D') and the indices of its tensors (-1: absent)."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The only subgraph of a model. `constants[i]` holds tensor i's values where the file stores them."""

    operators: tuple[Operator, ...]
    names: tuple[str, ...]
    constants: Mapping[int, Array]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    float_tensors: frozenset[int]

    def producer(self, tensor: int) -> Operator | None:
        """The operator that writes a tensor, or None for an input or a constant."""
        return next((operator for operator in self.operators if tensor in operator.outputs), None)

    def activations(self) -> list[int]:
        """Float tensors that are computed, inputs first, in execution order."""
        computed = [output for operator in self.operators for output in operator.outputs]
        return [index for index in (*self.inputs, *computed) if index in self.float_tensors]


def read_graph(content: bytes) -> tuple[Any, Graph]:
    """The FlatBuffer object (to edit) and its graph (to read). Raises StageError for a model with control flow."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    if len(model.subgraphs) != 1:
        raise StageError(f"the converted model has {len(model.subgraphs)} subgraphs; control flow can't be quantized")
    subgraph = model.subgraphs[0]
    float32 = 0
    constants = {
        index: _values(model, tensor)
        for index, tensor in enumerate(subgraph.tensors)
        if model.buffers[tensor.buffer].data is not None and len(model.buffers[tensor.buffer].data)
    }
    return model, Graph(
        operators=tuple(
            Operator(
                kind=str(flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)),
                inputs=tuple(int(i) for i in operator.inputs) if operator.inputs is not None else (),
                outputs=tuple(int(i) for i in operator.outputs),
            )
            for operator in subgraph.operators
        ),
        names=tuple(tensor.name.decode() for tensor in subgraph.tensors),
        constants=constants,
        inputs=tuple(int(i) for i in subgraph.inputs),
        outputs=tuple(int(i) for i in subgraph.outputs),
        float_tensors=frozenset(i for i, t in enumerate(subgraph.tensors) if t.type == float32 and i not in constants),
    )


def run_all_tensors(path: Path, inputs: list[Array], graph: Graph) -> dict[int, Array]:
    """Every float activation of one run, by tensor index. `inputs` are in the file's order, batch 1."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(path),
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    dtypes = {detail["index"]: detail["dtype"] for detail in interpreter.get_input_details()}
    for index, value in zip(graph.inputs, inputs, strict=True):
        # Integers may be narrower in the file than in the network: the converter makes int32 of int64.
        interpreter.set_tensor(index, np.ascontiguousarray(value, dtype=dtypes[index]))
    interpreter.invoke()
    return {index: interpreter.get_tensor(index) for index in graph.activations()}


def _values(model: Any, tensor: Any) -> Array:
    dtypes = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64, 6: np.bool_, 7: np.int16, 9: np.int8}
    data = np.asarray(model.buffers[tensor.buffer].data, dtype=np.uint8)
    if tensor.type not in dtypes:
        return data
    values: Array = data.view(dtypes[tensor.type])
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    return values.reshape(shape) if values.size == int(np.prod(shape, initial=1)) else values
