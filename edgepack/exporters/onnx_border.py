"""Codes instead of floats at the border of a QDQ graph: the app quantizes what it gives and reads codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.core.errors import UnsupportedError
from edgepack.exporters.onnx_graph import Graph


def codes_at_border(graph: Graph, dtype: str) -> None:
    """Take the quantizer of each float input and the dequantizer of each quantized output away; `dtype` is that of the codes.

    An output keeps its name. Raises UnsupportedError for an input without a grid.
    """
    for item in graph.inputs:
        if _is_float(item):
            _take_codes(graph, item, dtype)
    for item in graph.outputs:
        producers = graph.producers()
        maker = producers.get(item.name)
        if maker is not None and maker.op_type == "DequantizeLinear":
            _give_codes(graph, item, maker, dtype)


def _take_codes(graph: Graph, item: Any, dtype: str) -> None:
    readers = graph.readers()[item.name]
    if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
        raise UnsupportedError(
            f"input '{item.name}' is not quantized where it enters the network (is it used at all?), so it can't be given as {dtype}; "
            'use io_dtype = "float32"'
        )
    graph.nodes = [node for node in graph.nodes if node is not readers[0]]
    graph.let_read(readers[0].output[0], item.name)
    _set_type(item, dtype)


def _give_codes(graph: Graph, item: Any, dequantize: Any, dtype: str) -> None:
    """Let the codes have the output's name; other readers of the real values read them under another name."""
    real = graph.fresh(f"{item.name}/real")
    codes = dequantize.input[0]
    producer = graph.producers().get(codes)
    if producer is None or codes in graph.output_names():
        raise UnsupportedError(
            f"output '{item.name}' is an input or another output as it is; return it once, or use io_dtype = \"float32\""
        )
    read_inside = bool(graph.readers()[item.name])
    graph.let_read(item.name, real)
    dequantize.output[0] = real
    if not read_inside:
        graph.nodes = [node for node in graph.nodes if node is not dequantize]
    graph.let_read(codes, item.name)
    producer.output[:] = [item.name if name == codes else name for name in producer.output]
    _set_type(item, dtype)


def _is_float(item: Any) -> bool:
    from onnx import TensorProto

    return bool(item.type.tensor_type.elem_type == TensorProto.FLOAT)


def _set_type(item: Any, dtype: str) -> None:
    from onnx import helper

    item.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
