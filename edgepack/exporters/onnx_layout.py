"""The learned grid as QuantizeLinear/DequantizeLinear pairs (QDQ), which runtimes turn into integer kernels.

Torch's exporter leaves a pair after every operation that has a grid, and float weights. What is done to that here changes nothing that
is computed: the pairs get exact parameters and the names of their operations; a ReLU that the ends of the grid perform already disappears;
operators that only move values get a pair behind them, so that they move codes; weights become the trained int8 codes and biases int32
(`onnx_layers`); and at the border codes take the place of floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from edgepack.core.types import Array, QuantParams
from edgepack.exporters.onnx_graph import Graph, make_node

CodeType = Literal["uint8", "int8"]
_MOVES_VALUES_ONLY = {
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather", "Pad", "MaxPool", "Expand", "Tile",
    "Identity", "DepthToSpace", "SpaceToDepth",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What a tensor's pair says: its operation, its grid, the names of the two constants, and whether it only follows moved values."""

    operation: str
    params: QuantParams
    constants: tuple[str, str]
    carried: bool = False


def pool_globally(graph: Graph) -> None:
    """Means over all positions of a feature map become GlobalAveragePool, which has an integer kernel where ReduceMean has none."""
    nodes: list[Any] = []
    for node in graph.nodes:
        axes = graph.constants.get(node.input[1]) if node.op_type == "ReduceMean" and len(node.input) > 1 else None
        rank = graph.ranks.get(node.input[0], 0) if node.input else 0
        if axes is None or rank < 3 or sorted(axes % rank) != list(range(2, rank)):
            nodes.append(node)
            continue
        keeps = next((item.i for item in node.attribute if item.name == "keepdims"), 1)
        pooled = node.output[0] if keeps else graph.fresh(f"{node.output[0]}_pooled")
        nodes.append(make_node("GlobalAveragePool", [node.input[0]], [pooled], like=node))
        if not keeps:
            nodes.append(make_node("Flatten", [pooled], [node.output[0]], like=node))
    graph.nodes = nodes


def without_pairs(graph: Graph) -> Graph:
    """The same network in float: a copy of the graph without its pairs."""
    plain = graph.copy()
    source: dict[str, str] = {}
    nodes: list[Any] = []
    for node in plain.nodes:
        node.input[:] = [source.get(name, name) for name in node.input]
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            nodes.append(node)
        else:
            source[node.output[0]] = node.input[0]
    plain.nodes = nodes
    for name in plain.output_names():
        if name in source:
            _end_with(plain, source[name], name)
    return plain


def _end_with(graph: Graph, tensor: str, output: str) -> None:
    """Let a tensor be the graph's output of some name."""
    maker = graph.producers().get(tensor)
    if maker is None or tensor in graph.output_names():
        graph.nodes.append(make_node("Identity", [tensor], [output]))
        return
    maker.output[:] = [output if name == tensor else name for name in maker.output]
    graph.let_read(tensor, output)


def place_pairs(
    graph: Graph,
    operations: Mapping[str, str],
    activations: Mapping[str, QuantParams],
    *,
    dtype: CodeType,
    on_codes: bool,
) -> dict[str, Pair]:
    """Give the pairs their parameters and names, and put them where integer kernels want them. Answers each real-valued tensor's pair.

    `operations` names the operation of each QuantizeLinear output of the graph. With `on_codes`, a clamp that the grid's ends don't perform
    clips codes.
    """
    _quantize_before_moves(graph)
    pairs = _write_parameters(graph, operations, activations, dtype)
    _clamp_by_the_grid(graph, on_codes=on_codes)
    _carry_through_moves(graph, pairs, on_codes=on_codes)
    return pairs


def _quantize_before_moves(graph: Graph) -> None:
    """Where values are moved and then quantized (an NHWC input, a mean made flat), quantize first: codes are cheaper to move."""
    readers = graph.readers()
    for move in list(graph.nodes):
        following = readers[move.output[0]]
        if move.op_type not in _MOVES_VALUES_ONLY or len(move.output) != 1 or len(following) != 1:
            continue
        quantize = following[0]
        if quantize.op_type != "QuantizeLinear" or move.output[0] in graph.output_names():
            continue
        (dequantize,) = readers[quantize.output[0]]
        real, moved = dequantize.output[0], move.output[0]
        dequantize.output[0] = graph.fresh(f"{real}/real")
        quantize.input[0], move.input[0] = move.input[0], dequantize.output[0]
        if real in graph.output_names():
            move.output[0] = real
        else:
            graph.let_read(real, moved)
        graph.nodes = [node for node in graph.nodes if node is not move]
        graph.nodes.insert(graph.nodes.index(dequantize) + 1, move)


def _write_parameters(
    graph: Graph, operations: Mapping[str, str], activations: Mapping[str, QuantParams], dtype: CodeType
) -> dict[str, Pair]:
    pairs: dict[str, Pair] = {}
    of_codes: dict[str, Pair] = {}
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            pair = _pair(graph, operations[node.output[0]], activations[operations[node.output[0]]], dtype)
            codes = graph.fresh(f"{pair.operation}/codes")
            graph.let_read(node.output[0], codes)
            node.output[0], of_codes[codes] = codes, pair
        elif node.op_type == "DequantizeLinear":
            pair = of_codes[node.input[0]]
            if node.output[0] not in graph.output_names():
                name = graph.fresh(pair.operation)
                graph.let_read(node.output[0], name)
                node.output[0] = name
            pairs[node.output[0]] = pair
        else:
            continue
        node.input[1:] = pair.constants
        node.name = f"{node.op_type}:{pair.operation}"
        # The exporter states an axis and an output type; the former means nothing for one scale, and ONNX Runtime's optimizer
        # (1.31) fails on the latter when the zero point's type is then changed.
        del node.attribute[:]
    return pairs


def _pair(graph: Graph, operation: str, learned: QuantParams, dtype: CodeType) -> Pair:
    offset = 128 if dtype == "uint8" else 0  # the same grid: all codes and the zero point move by 128
    params = replace(learned, zero_point=tuple(zero + offset for zero in learned.zero_point), dtype=dtype)
    scale = graph.constant(f"{operation}/scale", np.array(params.scale[0], np.float32), shared=True)
    zero = graph.constant(f"{operation}/zero_point", np.array(params.zero_point[0], params.dtype), shared=True)
    return Pair(operation=operation, params=params, constants=(scale, zero))


def _clamp_by_the_grid(graph: Graph, *, on_codes: bool) -> None:
    """Drop a ReLU or clip before a quantizer that saturates at the same values; with `on_codes`, clip codes where it doesn't.

    Rounding is monotonic, so clamping codes by the rounded bounds gives the codes of the clamped values. ONNX Runtime's convolutions take
    in a clamp that the grid performs; any other one behind them makes it compute the whole convolution in float.
    """
    producers, readers = graph.producers(), graph.readers()
    for quantize in [node for node in graph.nodes if node.op_type == "QuantizeLinear"]:
        clamp = producers.get(quantize.input[0])
        bounds = None if clamp is None else _clamp_bounds(graph, clamp)
        if (
            clamp is None
            or bounds is None
            or len(readers[clamp.output[0]]) != 1
            or clamp.output[0] in graph.output_names()
        ):
            continue
        scale, zero = (graph.constants[name] for name in quantize.input[1:3])
        limits = np.iinfo(zero.dtype)
        low, high = (int(np.clip(np.rint(np.float32(b) / scale) + zero, limits.min, limits.max)) for b in bounds)
        if (low, high) == (limits.min, limits.max) or on_codes:
            quantize.input[0] = clamp.input[0]
            graph.nodes = [node for node in graph.nodes if node is not clamp]
        if (low, high) != (limits.min, limits.max) and on_codes:
            _clip_codes(graph, quantize, np.array([low, high], zero.dtype), like=clamp)


def _clip_codes(graph: Graph, quantize: Any, bounds: Array, *, like: Any) -> None:
    codes = quantize.output[0]
    quantize.output[0] = graph.fresh(f"{codes}/unclipped")
    names = [
        graph.constant(f"{codes}/{end}", np.asarray(bound), shared=True)
        for end, bound in zip(("lowest", "highest"), bounds, strict=True)
    ]
    clip = make_node("Clip", [quantize.output[0], *names], [codes], like=like)
    graph.nodes.insert(graph.nodes.index(quantize) + 1, clip)


def _clamp_bounds(graph: Graph, node: Any) -> tuple[float, float] | None:
    """The lowest and highest output of a ReLU or of a clip by constants."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type != "Clip":
        return None
    bounds = [-np.inf, np.inf]
    for index, name in enumerate(node.input[1:3]):
        if name:
            if name not in graph.constants:
                return None
            bounds[index] = float(graph.constants[name])
    return bounds[0], bounds[1]


def _carry_through_moves(graph: Graph, pairs: dict[str, Pair], *, on_codes: bool) -> None:
    """Put a pair with the same grid behind every operator that only moves quantized values. Its values are on the grid, so nothing is rounded.

    With `on_codes`, padding moves codes itself: ONNX Runtime (1.31) takes the pairs around every other move away, but not around this one.
    """
    nodes: list[Any] = []
    codes_of = {node.output[0]: node.input[0] for node in graph.nodes if node.op_type == "DequantizeLinear"}
    for node in graph.nodes:
        nodes.append(node)
        if node.op_type not in _MOVES_VALUES_ONLY or node.input[0] not in pairs:
            continue
        pair = replace(pairs[node.input[0]], carried=True)
        padding = _padding_code(graph, node, pair) if on_codes else None
        for index, moved in enumerate(node.output):
            node.output[index] = codes_of[moved] = graph.fresh(f"{moved}/codes")
            if padding is not None:
                node.input[:] = [codes_of[node.input[0]], node.input[1], padding, *node.input[3:]]
            else:
                node.output[index] = graph.fresh(f"{moved}/values")
                nodes.append(make_node("QuantizeLinear", [node.output[index], *pair.constants], [codes_of[moved]]))
            nodes.append(make_node("DequantizeLinear", [codes_of[moved], *pair.constants], [moved]))
            pairs[moved] = pair
    graph.nodes = nodes


def _padding_code(graph: Graph, node: Any, pair: Pair) -> str | None:
    """The constant with the code of a padding's value; None for another operator, or another kind of padding."""
    mode = next((item.s for item in node.attribute if item.name == "mode"), b"constant")
    value = graph.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.float32(0)
    if node.op_type != "Pad" or mode != b"constant" or value is None:
        return None
    scale, zero = (graph.constants[name] for name in pair.constants)
    limits = np.iinfo(zero.dtype)
    code = np.clip(np.rint(np.float32(value) / scale) + zero, limits.min, limits.max)
    return graph.constant(f"{node.output[0]}/padding", np.asarray(code, zero.dtype).reshape(()), shared=True)
