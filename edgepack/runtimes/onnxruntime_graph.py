"""What an .onnx file says about itself: the grids at its border, its operators, the tensors that can be kept; and what ONNX Runtime made of it.

In a QDQ file, QuantizeLinear and DequantizeLinear are how the grid is written down, not work that is done: a runtime fuses them with the operators
between them. So an operator's tensors are shown here as its neighbours read them, behind the pair, and pairs are no operators.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.core.types import QuantParams
from edgepack.runtimes.protocol import Operator

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# Between a quantizer and the output that it makes: they keep codes as they are, or clip them.
_KEEPS_GRID = {"Clip", "Pad", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"}
# The runtime's own data movements and the grid's notation: neither computes.
_NO_ARITHMETIC = {QUANTIZE, DEQUANTIZE, "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "ReorderInput", "ReorderOutput",
                  "MemcpyFromHost", "MemcpyToHost", "Shape", "Constant"}  # fmt: skip
_SHORT = {"FLOAT": "f32", "FLOAT16": "f16", "BFLOAT16": "bf16", "DOUBLE": "f64", "INT8": "i8", "UINT8": "u8", "INT16": "i16", "UINT16": "u16",
          "INT32": "i32", "INT64": "i64", "BOOL": "bool"}  # fmt: skip
_EIGHT_BITS = ("u8", "i8")
_FLOATS = ("f32", "f16", "bf16", "f64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A tensor to keep: the name it is shown under, the graph's tensor with its values or codes, and the grid of codes."""

    name: str
    tensor: str
    grid: QuantParams | None


class Graph:
    """A ModelProto's graph, to read."""

    def __init__(self, model: Any) -> None:
        self.proto = model.graph
        self.constants = {item.name: item for item in self.proto.initializer}
        self.outputs = [item.name for item in self.proto.output]
        self.inputs = [item.name for item in self.proto.input if item.name not in self.constants]
        self.producers = {name: node for node in self.proto.node for name in node.output}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.proto.node:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)

    def input_grid(self, name: str) -> QuantParams | None:
        """The grid of an input that takes codes: that of the dequantizer that reads it."""
        return next((self._grid(node) for node in self.readers[name] if node.op_type == DEQUANTIZE), None)

    def output_grid(self, name: str) -> QuantParams | None:
        """The grid of an output that gives codes: that of the quantizer that made it."""
        node = self.producers.get(name)
        while node is not None and node.op_type in _KEEPS_GRID:
            node = self.producers.get(node.input[0])
        return self._grid(node) if node is not None and node.op_type == QUANTIZE else None

    def operators(self) -> tuple[Operator, ...]:
        """The operators without the notation of the grid, in the file's order."""
        return tuple(
            Operator(
                name=self._kind(node),
                inputs=tuple(name for name in node.input if name and not self._is_constant(name)),
                outputs=tuple(self._behind_pair(name) for name in node.output if name),
            )
            for node in self.proto.node
            if node.op_type not in (QUANTIZE, DEQUANTIZE, "Constant")
        )

    def kept(self) -> list[Kept]:
        """What a session can keep without changing which kernels run: codes before a dequantizer, and floats that no pair fuses."""
        found: list[Kept] = []
        inside: dict[str, bool] = {}
        for node in reversed(self.proto.node):  # a tensor's readers come behind it
            for name in node.output:
                fuses = bool(self.readers[name]) and all(
                    self._is_fused(reader, inside) for reader in self.readers[name]
                )
                inside[name] = fuses and name not in self.outputs
        for node in self.proto.node:
            if node.op_type == DEQUANTIZE and not self._is_constant(node.input[0]):
                found.append(Kept(name=node.output[0], tensor=node.input[0], grid=self._grid(node)))
            elif node.op_type not in (QUANTIZE, DEQUANTIZE, "Constant"):
                shown = [name for name in node.output if name and not inside[name] and not self._is_codes(name)]
                found += [Kept(name=name, tensor=name, grid=None) for name in shown]
        return found

    def is_quantized(self) -> bool:
        return any(node.op_type == DEQUANTIZE for node in self.proto.node)

    def _is_fused(self, reader: Any, inside: dict[str, bool]) -> bool:
        return reader.op_type == QUANTIZE or (
            reader.op_type != DEQUANTIZE and all(inside[name] for name in reader.output)
        )

    def _is_codes(self, name: str) -> bool:
        return self.output_grid(name) is not None or any(node.op_type == DEQUANTIZE for node in self.readers[name])

    def _behind_pair(self, name: str) -> str:
        """The real-valued tensor that follows from an operator's output by its pair, or as far as the pair goes."""
        for kind in (QUANTIZE, DEQUANTIZE):
            readers = self.readers[name]
            if name not in self.outputs and len(readers) == 1 and readers[0].op_type == kind:
                name = str(readers[0].output[0])
        return name

    def _kind(self, node: Any) -> str:
        """An operator's name. A clip of codes that only bounds them from below is the ReLU that it performs on their values."""
        from onnx import numpy_helper

        if node.op_type != "Clip" or not self._is_codes(node.output[0]) or len(node.input) < 3:
            return str(node.op_type)
        highest = self.constants.get(node.input[2])
        if highest is None:
            return str(node.op_type)
        values = numpy_helper.to_array(highest)
        return "Relu" if values == np.iinfo(values.dtype).max else "Clip"

    def _is_constant(self, name: str) -> bool:
        node = self.producers.get(name)
        if node is None:
            return name in self.constants
        return node.op_type == "Constant" or (node.op_type == DEQUANTIZE and self._is_constant(node.input[0]))

    def _grid(self, node: Any) -> QuantParams | None:
        """The grid of a quantizer or dequantizer; None where the file computes it."""
        from onnx import numpy_helper

        if any(name and name not in self.constants for name in node.input[1:3]):
            return None
        scale = numpy_helper.to_array(self.constants[node.input[1]])
        zero = numpy_helper.to_array(self.constants[node.input[2]]) if len(node.input) > 2 else None
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        return QuantParams(
            scale=tuple(float(value) for value in scale.reshape(-1)),
            zero_point=(0,) * scale.size if zero is None else tuple(int(value) for value in zero.reshape(-1)),
            dtype="uint8" if zero is None else zero.dtype.name,
            axis=int(axis) if scale.size > 1 else None,
        )


def keep(model: Any, tensors: Iterable[str]) -> bytes:
    """The model with more outputs, as bytes."""
    from onnx import ValueInfoProto

    there = {item.name for item in (*model.graph.output, *model.graph.input)}
    model.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(tensors) if name not in there)
    content: bytes = model.SerializeToString()
    return content


def execution_types(optimized: Any, *, quantized: bool) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many operators of an optimized graph compute in which type ('u8', 'f32', …), and a note on those that a quantized file leaves in float."""
    types = {item.name: _element(item.type.tensor_type.elem_type) for item in optimized.graph.input}
    types |= {item.name: _element(item.data_type) for item in optimized.graph.initializer}
    counts: Counter[str] = Counter()
    in_float: Counter[str] = Counter()
    for node in optimized.graph.node:
        arithmetic, made = _types_of(node, types)
        types |= dict.fromkeys(node.output, made)
        if node.op_type not in _NO_ARITHMETIC:
            counts[arithmetic] += 1
            in_float[node.op_type] += arithmetic in _FLOATS
    left = [f"{kind} ×{count}" for kind, count in sorted((+in_float).items())]
    note = f"computed in float between integer operators, for lack of an integer kernel: {', '.join(left)}"
    return dict(sorted(counts.items())), (note,) if quantized and left else ()


def _types_of(node: Any, types: dict[str, str]) -> tuple[str, str]:
    """The type that a node of an optimized graph computes in, and the type of its outputs."""
    known = [types[name] for name in node.input if name in types]
    if node.op_type == QUANTIZE:
        return "f32", known[-1] if len(known) > 2 else "u8"
    if node.op_type == DEQUANTIZE:
        return "f32", known[1]
    if node.op_type == "Cast":
        made = _element(next(item.i for item in node.attribute if item.name == "to"))
        return made, made
    if "QLinear" in node.op_type or "QGemm" in node.op_type or "Integer" in node.op_type:
        integer = next((kind for kind in known if kind in _EIGHT_BITS), "other")
        return integer, "f32" if node.op_type.endswith("ToFloat") else integer
    if node.op_type in ("Shape", "Size", "ArgMax", "ArgMin", "NonZero"):
        return "i64", "i64"
    made = known[0] if known else "other"
    return made, made


def _element(kind: int) -> str:
    from onnx import TensorProto

    return _SHORT.get(TensorProto.DataType.Name(kind), "other")
