"""Which tensor of the float .tflite is which operation of the network, and so which grid it gets.

The converter renames, fuses and reorders, so names prove nothing: values do. One probe runs through both float graphs, and tensors
whose sorted values agree are the same. What the converter made of one operation (a hard sigmoid becomes add, relu6, mul) has
no counterpart; its range then follows from the learned range of its input, by interval arithmetic, never from data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Array, QuantParams
from edgepack.exporters.litert_graph import Graph, Operator, read_graph, run_all_tensors
from edgepack.network.program import Program

_RELATIVE_TOLERANCE = 2e-4  # float kernels sum in other orders; tensors of different operations differ by far more
_SAME_GRID = {
    "RESHAPE", "TRANSPOSE", "PAD", "PADV2", "MIRROR_PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "SLICE", "STRIDED_SLICE", "SPLIT",
    "SQUEEZE", "EXPAND_DIMS", "GATHER", "GATHER_ND", "UNPACK", "BROADCAST_TO", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
    "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "CONCATENATION", "PACK", "TILE", "REVERSE_V2",
}  # fmt: skip
# The grids that the kernels have built in (LiteRT quantization specification).
_BUILT_IN = {
    "int8": {
        "LOGISTIC": QuantParams(scale=(1 / 256,), zero_point=(-128,)),
        "SOFTMAX": QuantParams(scale=(1 / 256,), zero_point=(-128,)),
        "TANH": QuantParams(scale=(1 / 128,), zero_point=(0,)),
    },
    "int16": dict.fromkeys(
        ("LOGISTIC", "SOFTMAX", "TANH"), QuantParams(scale=(1 / 32768,), zero_point=(0,), dtype="int16")
    ),
}
Interval = tuple[float, float]
_ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
}
_CLAMPS: dict[str, Interval] = {
    "RELU": (0.0, np.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "RELU_0_TO_1": (0.0, 1.0),
}


@dataclass(slots=True)
class Pairing:
    """Each activation tensor's grid by tensor name; `paired` names the operation of those that were found by value."""

    graph: Graph
    dtype: str = "int8"
    params: dict[str, QuantParams] = field(default_factory=dict)
    paired: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def ranges(self) -> dict[str, Interval]:
        """The real values of the lowest and highest code, by tensor name."""
        return {name: _interval(params) for name, params in self.params.items()}


def pair(float_path: Path, program: Program, inputs: list[Array], probe: tuple[torch.Tensor, ...]) -> Pairing:
    """Find every activation's grid. `inputs` is the probe as the file takes it, `probe` as the network does.

    Raises UnsupportedError that names the operator and its place when a tensor's grid is neither found nor derivable.
    """
    _, graph = read_graph(float_path.read_bytes())
    ours = _operation_values(program, probe)
    theirs = run_all_tensors(float_path, inputs, graph)
    pairing = Pairing(graph=graph, dtype=next((one.dtype for one in program.activations.values()), "int8"))
    used: set[str] = set()
    for tensor in graph.activations():
        found = _same_values(theirs[tensor], ours)
        if found:
            choice = next((op for op in found if op not in used), found[-1])
            used.add(choice)
            name = graph.names[tensor]
            pairing.params[name], pairing.paired[name] = program.activations[choice], choice
    for tensor in graph.activations():
        name = graph.names[tensor]
        if name not in pairing.params:
            operator = graph.producer(tensor)
            if operator is None:
                raise UnsupportedError(f"input '{name}' is quantized nowhere in the network; is it used at all?")
            pairing.params[name] = _scaled_consumer(tensor, pairing) or _derive(operator, name, pairing)
    return pairing


def _operation_values(program: Program, probe: tuple[torch.Tensor, ...]) -> dict[str, Array]:
    """The sorted float values of every operation that has a grid, for the probe."""
    from nncf.torch.function_hook import register_post_function_hook, wrap_model

    network = wrap_model(program.float_network)
    recorders = {name: _Recorder() for name in program.activations}
    handles = [register_post_function_hook(network, name, 0, recorder) for name, recorder in recorders.items()]
    with torch.no_grad():
        network(*probe)
    for handle in handles:
        handle.remove()
    return {name: recorder.values for name, recorder in recorders.items() if recorder.values is not None}


class _Recorder(nn.Module):
    """Keeps the sorted values of the tensor that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.values: Array | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.values = np.sort(x.detach().numpy(), axis=None)
        return x


def _same_values(tensor: Array, operations: dict[str, Array]) -> list[str]:
    candidates = {name: values for name, values in operations.items() if values.size == tensor.size}
    if not candidates:
        return []
    values = np.sort(tensor, axis=None)
    tolerance = _RELATIVE_TOLERANCE * max(float(np.abs(values).max()), 1e-6)
    return [name for name, theirs in candidates.items() if float(np.abs(values - theirs).max()) <= tolerance]


def _scaled_consumer(tensor: int, pairing: Pairing) -> QuantParams | None:
    """The grid of a tensor whose only use is a product with a constant, from the product's grid: the codes are the same."""
    graph = pairing.graph
    uses = [operator for operator in graph.operators if tensor in operator.inputs]
    if len(uses) != 1 or uses[0].kind != "MUL":
        return None
    product = pairing.params.get(graph.names[uses[0].outputs[0]])
    factor = next((graph.constants[i] for i in uses[0].inputs if i in graph.constants), None)
    if product is None or factor is None or factor.size != 1 or factor.item() <= 0:
        return None
    name = graph.names[tensor]
    pairing.notes.append(f"{place(name)}: its grid is that of its product with {factor.item():.4g}")
    return replace(product, scale=(product.scale[0] / float(factor.item()),))


def _derive(operator: Operator, name: str, pairing: Pairing) -> QuantParams:
    graph = pairing.graph
    known = [pairing.params[graph.names[i]] for i in operator.inputs if i >= 0 and graph.names[i] in pairing.params]
    if operator.kind in _BUILT_IN[pairing.dtype]:
        return _BUILT_IN[pairing.dtype][operator.kind]
    if known and operator.kind in _SAME_GRID:
        return known[0]
    if len(known) == 1 and operator.kind in _CLAMPS:
        low, high = _interval(known[0])
        return _note(
            pairing,
            name,
            operator,
            _params((max(low, _CLAMPS[operator.kind][0]), min(high, _CLAMPS[operator.kind][1])), pairing.dtype),
        )
    if operator.kind in _ARITHMETIC and known:
        operands = [_operand(i, pairing) for i in operator.inputs]
        corners = [_ARITHMETIC[operator.kind](a, b) for a in operands[0] for b in operands[1]]
        if all(np.isfinite(corner).all() for corner in corners):
            return _note(
                pairing,
                name,
                operator,
                _params((min(float(c.min()) for c in corners), max(float(c.max()) for c in corners)), pairing.dtype),
            )
    raise UnsupportedError(
        f"LiteRT operator {operator.kind} at '{place(name)}': no range was learned for its output and none follows from its inputs, so it "
        f"can't be computed in {pairing.dtype}; replace the operation by one that such kernels know"
    )


def _operand(tensor: int, pairing: Pairing) -> tuple[Array, Array]:
    """The lowest and highest values that an input of an operator can take: a constant is both."""
    if tensor in pairing.graph.constants:
        constant = pairing.graph.constants[tensor].astype(np.float64)
        return constant, constant
    low, high = _interval(pairing.params[pairing.graph.names[tensor]])
    return np.array(low), np.array(high)


def _note(pairing: Pairing, name: str, operator: Operator, params: QuantParams) -> QuantParams:
    low, high = _interval(params)
    pairing.notes.append(
        f"{place(name)}: the range of {operator.kind} [{low:.4g}, {high:.4g}] follows from its input's"
    )
    return params


def place(name: str) -> str:
    """The module path inside a converter's tensor name: 'm.Net/torch.nn.modules.linear.Linear_fc;' → 'fc'."""
    first = name.split(";")[0]
    parts = [part.rpartition("_")[2] if "." in part else part for part in first.split("/")]
    return "/".join(part for part in parts[1:] if part) or first


def _interval(params: QuantParams) -> Interval:
    scale, zero_point, codes = params.scale[0], params.zero_point[0], np.iinfo(params.dtype)
    return (codes.min - zero_point) * scale, (codes.max - zero_point) * scale


def _params(bounds: Interval, dtype: str) -> QuantParams:
    """The grid over a range, widened to hold zero, with an exact zero: asymmetric in int8, symmetric in int16."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    if dtype == "int16":
        return QuantParams(scale=(max(-low / 32768, high / 32767, 1e-9),), zero_point=(0,), dtype=dtype)
    scale = max(high - low, 1e-6) / 255
    zero_point = int(np.clip(np.rint(-128 - low / scale), -128, 127))
    return QuantParams(scale=(scale,), zero_point=(zero_point,))
