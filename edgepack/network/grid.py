"""The quantization grid of a network: which tensors have one, which must share one, and what training made of it.

NNCF decides where quantizers help an Intel CPU. A target whose kernels compute in integers throughout needs more: every
tensor that survives into the graph has a grid, operators that only move values keep the grid of their input, some share one
among all inputs and outputs, and a few have theirs built in. `complete_grid` adds, merges and pins quantizers until that holds,
so that what is trained is what the device will compute. The rules come from the target (`NumericConstraints`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from edgepack.core.errors import UnsupportedError
from edgepack.core.types import QuantParams

INT8_LOWEST = -128
_FUSES = {"conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "linear", "batch_norm", "add", "sub", "mul"}
_WEIGHTED = {"conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "linear"}
_OUTPUT_CHANNEL_AXIS = {"conv_transpose1d": 1, "conv_transpose2d": 1}
_MOVES_VALUES_ONLY = {"max_pool2d", "reshape", "view", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "slice",
                      "split", "chunk", "select", "expand", "contiguous", "clone", "detach", "dropout", "identity", "getitem", "pad"}  # fmt: skip


class Constraints(Protocol):
    """What this module reads of a target's numeric constraints."""

    @property
    def weights_bits(self) -> int: ...
    @property
    def activations_bits(self) -> int: ...
    @property
    def fused_activations(self) -> tuple[str, ...]: ...
    @property
    def same_grid_ops(self) -> tuple[str, ...]: ...
    @property
    def one_grid_ops(self) -> tuple[str, ...]: ...
    @property
    def fixed_output_ranges(self) -> dict[str, tuple[float, float]]: ...


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of the traced graph. `name` is NNCF's, e.g. 'stem/0/conv2d/0'; `kind` is the function, e.g. 'conv2d'."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    consumers: tuple[str, ...]
    output_shape: tuple[int, ...]
    weight: str | None


def trace(network: nn.Module, example: tuple[torch.Tensor, ...]) -> dict[str, Op]:
    """The float operations that depend on the network's inputs, in topological order. `network` must have no hooks.

    Raises UnsupportedError when NNCF can't trace it.
    """
    import nncf
    from nncf.torch.function_hook import wrap_model
    from nncf.torch.function_hook.nncf_graph.nncf_graph_builder import build_nncf_graph

    try:
        with torch.no_grad():
            graph = build_nncf_graph(wrap_model(network), example if len(example) > 1 else example[0])
    except (nncf.InternalError, nncf.ValidationError, RuntimeError, TypeError) as exc:
        raise UnsupportedError(f"NNCF can't trace the model's forward: {exc}") from exc
    ops: dict[str, Op] = {}
    reached: set[str] = set()  # what depends on an input, integers included
    for node in graph.topological_sort():
        edges = graph.get_input_edges(node)
        incoming = [edge for edge in edges if edge.dtype.name == "FLOAT"]
        outgoing = graph.get_output_edges(node)
        live = tuple(
            edge.from_node.node_name
            for edge in sorted(incoming, key=lambda e: e.input_port_id)
            if edge.from_node.node_name in ops
        )
        if node.node_type != "nncf_model_input" and not any(edge.from_node.node_name in reached for edge in edges):
            continue
        reached.add(node.node_name)
        if outgoing and all(edge.dtype.name != "FLOAT" for edge in outgoing):
            continue
        ops[node.node_name] = Op(
            name=node.node_name,
            kind=node.node_type.strip("_").removeprefix("i")
            if node.node_type.startswith("__i")
            else node.node_type.strip("_"),
            inputs=live,
            consumers=tuple(edge.to_node.node_name for edge in outgoing),
            output_shape=tuple(outgoing[0].tensor_shape) if outgoing else (),
            weight=_weight_name(graph, node),
        )
    return ops


def complete_grid(
    network: nn.Module, ops: dict[str, Op], constraints: Constraints, batches: Iterable[tuple[torch.Tensor, ...]]
) -> frozenset[str]:
    """Give every tensor that the target keeps a grid, and make those equal that must be.

    `network` comes from `nncf.quantize`; `batches` measure the ranges of quantizers that are added. Answers the names of the hooks whose
    range is fixed. Raises UnsupportedError where the target's rules contradict each other, naming the operators.
    """
    hooks = _Hooks(network)
    _weights_have_one_quantizer_each(hooks, network, ops, constraints)
    _move_input_quantizers_to_producers(hooks, ops)
    groups = _groups(ops, constraints)
    missing = [
        members
        for members in groups
        if not any(hooks.quantizer_after(name) for name in members) and _fixed(members, ops, constraints) is None
    ]
    ranges = _measure(network, hooks, missing, batches)
    frozen: set[str] = set()
    for members in groups:
        fixed = _fixed(members, ops, constraints)
        bounds = fixed or ranges.get(members[0]) or _union(hooks.quantizer_after(name) for name in members)
        existing = [quantizer for name in members if (quantizer := hooks.quantizer_after(name)) is not None]
        reuse = existing[0] if len(existing) == 1 and fixed is None else None
        quantizer = reuse or _asymmetric(bounds, bits=constraints.activations_bits)
        for name in members:
            hooks.clear_after(name)
            if ops[name].kind not in _MOVES_VALUES_ONLY:
                placed = hooks.place_after(name, quantizer)
                if fixed is not None:
                    frozen.add(placed)
    keep_zero_exact(network)
    return frozenset(frozen)


def keep_zero_exact(network: nn.Module) -> None:
    """Move range ends that lie within half a step of zero onto zero.

    NNCF tunes a range so that zero has a code, except there: its own grid is then off by up to half a step from the scale and zero point
    that it reports (nncf 3.4, torch/quantization/quantize_functions.py, TuneRange), and no integer kernel can follow it.
    """
    from nncf.torch.quantization.layers import AsymmetricQuantizer

    with torch.no_grad():
        for quantizer in network.modules():
            if isinstance(quantizer, AsymmetricQuantizer):
                low, width = quantizer.input_low, quantizer.input_range.abs()
                high, half_step = low + width, width / (2 * (quantizer.levels - 1))
                near_low, near_high = low.abs() <= half_step, high.abs() <= half_step
                new_low = torch.where(near_low, 0.0, low)
                quantizer.input_range.copy_(torch.where(near_high, 0.0, high) - new_low)
                low.copy_(new_low)


def grid_points(ops: dict[str, Op], constraints: Constraints) -> list[str]:
    """The operations whose outputs get a grid. Raises UnsupportedError where the target's rules contradict each other."""
    _refuse_computed_weights(ops)
    groups = _groups(ops, constraints)
    for members in groups:
        _fixed(members, ops, constraints)
    return [name for members in groups for name in members if ops[name].kind not in _MOVES_VALUES_ONLY]


def made_up_grid(network: nn.Module, ops: dict[str, Op], constraints: Constraints) -> Grid:
    """A grid of the right form with invented activation ranges, for laying an integer graph out before any training.

    `network` is the float network that `ops` were traced from. Raises as `grid_points`.
    """
    activations = {name: QuantParams(scale=(1.0,), zero_point=(0,)) for name in grid_points(ops, constraints)}
    weights: dict[str, QuantParams] = {}
    for op in ops.values():
        if op.weight is not None:
            values, axis = network.get_parameter(op.weight).detach(), _OUTPUT_CHANNEL_AXIS.get(op.kind, 0)
            largest = values.abs().amax(dim=[d for d in range(values.dim()) if d != axis]).clamp_min(1e-12)
            scale = tuple((largest / 127).tolist())
            weights[op.weight] = QuantParams(scale=scale, zero_point=(0,) * len(scale), axis=axis)
    return Grid(activations=activations, weights=weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What the exporters impose: activations by operation name, weights by parameter name of the float network."""

    activations: dict[str, QuantParams]
    weights: dict[str, QuantParams]


def read_grid(network: nn.Module, ops: dict[str, Op]) -> Grid:
    """The scale and zero point of every quantized tensor, as int8 codes count."""
    hooks = _Hooks(network)
    activations = {name: _params(quantizer) for name in ops if (quantizer := hooks.quantizer_after(name)) is not None}
    weights: dict[str, QuantParams] = {}
    for op in ops.values():
        if op.weight is not None and (quantizer := hooks.weight_quantizer(op)) is not None:
            weights[op.weight] = _params(quantizer, axis=_OUTPUT_CHANNEL_AXIS.get(op.kind, 0))
    return Grid(activations=activations, weights=weights)


def output_grids(network: nn.Module, ops: dict[str, Op]) -> list[QuantParams | None]:
    """The grid of each output of the network, in the order of forward; None for one that has none."""
    hooks = _Hooks(network)
    grids: list[QuantParams | None] = []
    outputs = [op for op in ops.values() if op.kind == "nncf_model_output"]
    for output in sorted(outputs, key=lambda op: (len(op.name), op.name)):  # 'output_2' before 'output_10'
        name: str | None = output.inputs[0] if output.inputs else None
        while name is not None and hooks.quantizer_after(name) is None:
            moved = ops[name].kind in _MOVES_VALUES_ONLY and ops[name].inputs
            name = ops[name].inputs[0] if moved else None
        grids.append(None if name is None else _params(hooks.quantizer_after(name)))
    return grids


def baked_state(network: nn.Module, ops: dict[str, Op]) -> dict[str, torch.Tensor]:
    """The float network's state with every weight as the hooks make it: masked, quantized, with exact zeros."""
    from nncf.torch.function_hook.pruning.magnitude.modules import UnstructuredPruningMask

    hooks = _Hooks(network)
    state = {name: value.clone() for name, value in network.state_dict().items() if not name.startswith("__nncf_hooks")}
    with torch.no_grad():
        for name, hook in hooks.storage.named_hooks(remove_duplicate=False):
            if isinstance(hook, UnstructuredPruningMask):
                parameter = name.removeprefix("post_hooks.").rpartition("__")[0].replace(":", ".")
                state[parameter] *= hook.binary_mask
        for op in ops.values():
            if op.weight is not None and (quantizer := hooks.weight_quantizer(op)) is not None:
                axis = _OUTPUT_CHANNEL_AXIS.get(op.kind, 0)
                scale = _broadcast(torch.tensor(_params(quantizer, axis=axis).scale), state[op.weight].dim(), axis)
                state[op.weight] = torch.round(quantizer(state[op.weight]) / scale) * scale
    return state


def activation_points(network: nn.Module, ops: dict[str, Op]) -> dict[str, nn.Module]:
    """The activation quantizers by operation name."""
    hooks = _Hooks(network)
    return {name: quantizer for name in ops if (quantizer := hooks.quantizer_after(name)) is not None}


class _Hooks:
    """NNCF's hook storage, addressed by operation name."""

    def __init__(self, network: nn.Module) -> None:
        from nncf.torch.function_hook.wrapper import get_hook_storage

        self.storage = get_hook_storage(network)

    def quantizer_after(self, op_name: str) -> Any | None:
        return self._first(self.storage.post_hooks, op_name, 0)

    def quantizer_before(self, op_name: str, port: int) -> Any | None:
        return self._first(self.storage.pre_hooks, op_name, port)

    def weight_quantizer(self, op: Op) -> Any | None:
        return self.quantizer_before(op.name, 1)

    def clear_after(self, op_name: str) -> None:
        self._clear("post_hooks", op_name, 0)

    def clear_before(self, op_name: str, port: int) -> None:
        self._clear("pre_hooks", op_name, port)

    def place_after(self, op_name: str, module: nn.Module) -> str:
        handle = self.storage.register_post_function_hook(op_name, 0, module)
        return f"post_hooks.{handle.key}.{handle.id}"

    def place_before(self, op_name: str, port: int, module: nn.Module) -> None:
        self.storage.register_pre_function_hook(op_name, port, module)

    def _first(self, table: nn.ModuleDict, op_name: str, port: int) -> Any | None:
        from nncf.torch.quantization.layers import BaseQuantizer

        key = f"{op_name.replace('.', ':')}__{port}"
        found = [hook for hook in table[key].values() if isinstance(hook, BaseQuantizer)] if key in table else []  # type: ignore[operator]
        return found[0] if found else None

    def _clear(self, side: str, op_name: str, port: int) -> None:
        from nncf.torch.quantization.layers import BaseQuantizer

        key = f"{op_name.replace('.', ':')}__{port}"
        table = getattr(self.storage, side)
        if key in table:
            for hook_id in [i for i, hook in table[key].items() if isinstance(hook, BaseQuantizer)]:
                self.storage.delete_hook(f"{side}.{key}.{hook_id}")


def _weight_name(graph: Any, node: Any) -> str | None:
    import nncf
    from nncf.torch.model_graph_manager import get_const_node

    if node.node_type not in _WEIGHTED:
        return None
    try:
        const = get_const_node(node, 1, graph)
    except nncf.InternalError:  # no constant at all: forward computes the weight
        return None
    return const.layer_attributes.name if const is not None else None


def _weights_have_one_quantizer_each(
    hooks: _Hooks, network: nn.Module, ops: dict[str, Op], constraints: Constraints
) -> None:
    """Add the weight quantizers that NNCF left out, and let a weight that is used twice have one quantizer."""
    _refuse_computed_weights(ops)
    by_weight: dict[str, nn.Module] = {}
    for op in ops.values():
        if op.weight is None:
            continue
        quantizer = by_weight.get(op.weight) or hooks.weight_quantizer(op)
        if quantizer is None:
            axis = _OUTPUT_CHANNEL_AXIS.get(op.kind, 0)
            quantizer = _symmetric(network.get_parameter(op.weight), axis=axis, bits=constraints.weights_bits)
        by_weight[op.weight] = quantizer
        if hooks.weight_quantizer(op) is not quantizer:
            hooks.clear_before(op.name, 1)
            hooks.place_before(op.name, 1, quantizer)


def _refuse_computed_weights(ops: dict[str, Op]) -> None:
    for op in ops.values():
        if op.kind in _WEIGHTED and op.weight is None:
            raise UnsupportedError(
                f"{op.name}: the weight of this {op.kind} is computed in forward, not a parameter; quantization needs a parameter"
            )


def _move_input_quantizers_to_producers(hooks: _Hooks, ops: dict[str, Op]) -> None:
    """A tensor has one grid: a quantizer before an operation's input belongs after the operation that makes it."""
    for op in ops.values():
        for port, source in enumerate(op.inputs):
            if port == 1 and op.kind in _WEIGHTED:
                continue
            quantizer = hooks.quantizer_before(op.name, port)
            if quantizer is not None:
                hooks.clear_before(op.name, port)
                if hooks.quantizer_after(source) is None:
                    hooks.place_after(source, quantizer)


def _groups(ops: dict[str, Op], constraints: Constraints) -> list[tuple[str, ...]]:
    """Operations whose outputs share one grid (union-find), without those that are fused into their only consumer."""
    kept = [name for name, op in ops.items() if op.kind != "nncf_model_output" and not _is_fused(op, ops, constraints)]
    parent = {name: name for name in kept}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for name in kept:
        op = ops[name]
        same = _keeps_grid(op, constraints)
        if same or op.kind in constraints.one_grid_ops:
            for source in op.inputs[:1] if same else op.inputs:
                if source in parent:
                    parent[root(name)] = root(source)
    members: dict[str, list[str]] = {}
    for name in kept:
        members.setdefault(root(name), []).append(name)
    return [tuple(group) for group in members.values()]


def _keeps_grid(op: Op, constraints: Constraints) -> bool:
    if op.kind == "adaptive_avg_pool2d":  # to 1×1 it becomes MEAN, which has a grid of its own
        return any(size != 1 for size in op.output_shape[2:])
    return op.kind in constraints.same_grid_ops or op.kind == "getitem"


def _is_fused(op: Op, ops: dict[str, Op], constraints: Constraints) -> bool:
    """Whether the operation's output never exists on the device: batch norm or an activation is computed with it."""
    consumers = [ops[name] for name in op.consumers if name in ops]
    if len(op.consumers) != 1 or len(consumers) != 1:
        return False
    kind = consumers[0].kind
    return (op.kind in _WEIGHTED and kind == "batch_norm") or (
        op.kind in _FUSES and kind in constraints.fused_activations
    )


def _fixed(members: tuple[str, ...], ops: dict[str, Op], constraints: Constraints) -> tuple[float, float] | None:
    fixed = {
        name: constraints.fixed_output_ranges[ops[name].kind]
        for name in members
        if ops[name].kind in constraints.fixed_output_ranges
    }
    if not fixed:
        return None
    makers = [
        name
        for name in members
        if ops[name].kind not in _MOVES_VALUES_ONLY and ops[name].kind not in constraints.same_grid_ops
    ]
    if len(set(fixed.values())) > 1 or any(
        name not in fixed for name in makers if ops[name].kind not in constraints.one_grid_ops
    ):
        raise UnsupportedError(
            f"{', '.join(members)}: these must share one grid, but {', '.join(fixed)} has its own built into the kernel; "
            "put another operation between them, or leave the concatenation out of the model"
        )
    return next(iter(fixed.values()))


class _MinMax(nn.Module):
    """Remembers the smallest and largest value that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = 0.0, 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        return x


def _measure(
    network: nn.Module, hooks: _Hooks, groups: list[tuple[str, ...]], batches: Iterable[tuple[torch.Tensor, ...]]
) -> dict[str, tuple[float, float]]:
    """The range of each group's values, over the batches. Keys are the first members."""
    if not groups:
        return {}
    recorders = {members[0]: _MinMax() for members in groups}
    placed = [
        (name, hooks.storage.register_post_function_hook(name, 0, recorders[members[0]]))
        for members in groups
        for name in members
    ]
    network.eval()
    with torch.no_grad():
        for batch in batches:
            network(*batch)
    for _, handle in placed:
        handle.remove()
    return {name: (recorder.low, recorder.high) for name, recorder in recorders.items()}


def _union(quantizers: Iterable[Any | None]) -> tuple[float, float]:
    bounds = [quantizer.get_input_low_input_high() for quantizer in quantizers if quantizer is not None]
    return min(low.min().item() for low, _ in bounds), max(high.max().item() for _, high in bounds)


def _asymmetric(bounds: tuple[float, float], *, bits: int) -> nn.Module:
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.torch.quantization.layers import AsymmetricQuantizer, PTQuantizerSpec

    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    quantizer = AsymmetricQuantizer(
        PTQuantizerSpec(
            num_bits=bits, mode=QuantizationScheme.ASYMMETRIC, signedness_to_force=None, narrow_range=False,
            half_range=False, scale_shape=(1,), logarithm_scale=False,
        )
    )  # fmt: skip
    with torch.no_grad():
        quantizer.input_low.fill_(low)
        quantizer.input_range.fill_(max(high - low, 1e-6))
    return quantizer  # type: ignore[no-any-return]


def _symmetric(weight: torch.Tensor, *, axis: int, bits: int) -> nn.Module:
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.torch.quantization.layers import PTQuantizerSpec, SymmetricQuantizer

    others = [dimension for dimension in range(weight.dim()) if dimension != axis]
    scale = weight.detach().abs().amax(dim=others, keepdim=True)
    quantizer = SymmetricQuantizer(
        PTQuantizerSpec(
            num_bits=bits, mode=QuantizationScheme.SYMMETRIC, signedness_to_force=True, narrow_range=True,
            half_range=False, scale_shape=tuple(scale.shape), logarithm_scale=False,
        )
    )  # fmt: skip
    with torch.no_grad():
        quantizer.scale.copy_(scale.clamp_min(1e-12))
    return quantizer  # type: ignore[no-any-return]


def _params(quantizer: Any, *, axis: int | None = None) -> QuantParams:
    """NNCF counts codes from its own lowest level; int8 counts from -128 (asymmetric) or around 0 (symmetric)."""
    lowest, _, scale, zero_point = quantizer.get_parameters_for_torch_fq()
    symmetric = axis is not None
    return QuantParams(
        scale=tuple(float(value) for value in scale.flatten()),
        zero_point=tuple(0 if symmetric else int(value) - lowest + INT8_LOWEST for value in zero_point.flatten()),
        axis=axis if scale.numel() > 1 else None,
    )


def _broadcast(vector: torch.Tensor, dimensions: int, axis: int) -> torch.Tensor:
    return vector if vector.numel() == 1 else vector.reshape([-1 if d == axis else 1 for d in range(dimensions)])
