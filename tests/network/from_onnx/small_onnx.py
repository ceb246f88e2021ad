"""Small ONNX models made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
# Opsets of the same time have the same number of the intermediate representation; ONNX Runtime refuses the newest.
_IR_VERSION = 8


def node(kind: str, inputs: str, outputs: str = "y", /, **attributes: Any) -> onnx.NodeProto:
    """An operator; names are separated by spaces, '-' is an input that is left out."""
    given = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, given, outputs.split(), name=f"{kind.lower()}_{outputs.split()[0]}", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Mapping[str, Sequence[Any]],
    constants: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    dtypes: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """Inputs are float32 unless `dtypes` says otherwise; sizes may be texts."""
    types = dtypes or {}
    graph = helper.make_graph(
        list(nodes),
        "small",
        [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape)
            for name, shape in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=_IR_VERSION)
    typed = onnx.shape_inference.infer_shapes(made)
    for value in typed.graph.output:
        if not value.type.tensor_type.HasField(
            "shape"
        ):  # the checker wants one; that of the first input is as good as any
            first = next(iter(inputs.values()))
            value.type.CopyFrom(
                helper.make_tensor_type_proto(TensorProto.FLOAT, [f"size {i}" for i in range(len(first))])
            )
    return typed


def save(content: onnx.ModelProto, path: Path) -> Path:
    onnx.save(content, str(path))
    return path
