"""Weights of few bits in an openvino.Model that computes in float: codes → Convert → Subtract → Multiply → Reshape.

OpenVINO calls that decompression; a plugin's kernels multiply with the codes as they are (matrices of 8 or 4 bits, looked-up tables), and compute the rest in float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgepack.core.errors import UnsupportedError
from edgepack.network.program import Program
from edgepack.network.weight_grids import WeightGrid, folded


def write_codes(network: Any, program: Program, grids: Mapping[str, WeightGrid], *, as_int4: bool) -> None:
    """Put codes in the place of float weights. A weight is found by its values, which no reshape changes.

    `as_int4` stores codes of four bits two in a byte; without, each has one.

    Raises UnsupportedError where a weight is not in the converted model: a batch norm was folded into it.
    """
    if not grids:
        return
    by_values = folded(grids, program.layers)
    missing = dict.fromkeys(grids)
    for node in network.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "f32":
            continue
        name, grid = by_values.get(np.ascontiguousarray(node.data).tobytes(), ("", None))
        if grid is None:
            continue
        real = _real(grid, tuple(node.data.shape), as_int4=as_int4)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(real.output(0))
        missing.pop(name, None)
    if missing:
        raise UnsupportedError(
            f"{', '.join(missing)}: these weights are not in the converted model as they were rounded (a batch norm is folded into them?); "
            "name their layers in float_layers of compress_weights, or quantize"
        )
    # Else the CPU plugin (2026.4) rounds the activations of compressed layers to 8 bits. Who compiles the model may ask for that all the same.
    network.set_rt_info("0", ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    network.validate_nodes_and_infer_types()


def _real(grid: WeightGrid, shape: tuple[int, ...], *, as_int4: bool) -> Any:
    """The nodes that make a weight of `shape` of its codes."""
    from openvino import Type
    from openvino import opset13 as ops

    kind = {(8, True): Type.i8, (8, False): Type.u8, (4, True): Type.i4, (4, False): Type.u4}[
        grid.bits if as_int4 else 8, grid.zero_point is None
    ]
    real = ops.convert(ops.constant(np.ascontiguousarray(grid.codes), dtype=kind), np.float32)
    if grid.zero_point is not None:
        zero_point = ops.constant(np.ascontiguousarray(grid.zero_point), dtype=kind)
        real = ops.subtract(real, ops.convert(zero_point, np.float32))
    real = ops.multiply(real, ops.convert(ops.constant(np.ascontiguousarray(grid.scale)), np.float32))
    if tuple(grid.codes.shape) != shape:
        real = ops.reshape(real, ops.constant(np.array(shape, np.int64)), special_zero=False)
    return real
