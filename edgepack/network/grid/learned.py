"""What training made of the grid: scales and zero points as integer kernels count them, and weights on their grid."""

from __future__ import annotations

import torch
from torch import nn

from edgepack.core.types import Grid, QuantParams
from edgepack.network.grid.hooks import Hooks, params_of
from edgepack.network.grid.operations import OUTPUT_CHANNEL_AXIS, Op
from edgepack.network.grid.rules import MOVES_VALUES_ONLY, Constraints, grid_points
from edgepack.network.grid.tables import table_quantizers


def read_grid(network: nn.Module, ops: dict[str, Op]) -> Grid:
    """The scale and zero point of every quantized tensor, as int8 codes count."""
    hooks = Hooks(network)
    activations = {name: params_of(quantizer) for name in ops if (quantizer := hooks.quantizer_after(name)) is not None}
    weights: dict[str, QuantParams] = {}
    for op in ops.values():
        if op.weight is not None and (quantizer := hooks.weight_quantizer(op)) is not None:
            weights[op.weight] = params_of(quantizer, axis=OUTPUT_CHANNEL_AXIS.get(op.kind, 0))
    return Grid(activations=activations, weights=weights)


def made_up_grid(network: nn.Module, ops: dict[str, Op], constraints: Constraints) -> Grid:
    """A grid of the right form with invented activation ranges, for laying an integer graph out before any training.

    `network` is the float network that `ops` were traced from. Raises as `grid_points`.
    """
    dtype = "int16" if constraints.activations_bits > 8 else "int8"
    activations = {
        name: QuantParams(scale=(1.0,), zero_point=(0,), dtype=dtype) for name in grid_points(ops, constraints)
    }
    weights: dict[str, QuantParams] = {}
    for op in ops.values():
        if op.weight is not None:
            values, axis = network.get_parameter(op.weight).detach(), OUTPUT_CHANNEL_AXIS.get(op.kind, 0)
            largest = values.abs().amax(dim=[d for d in range(values.dim()) if d != axis]).clamp_min(1e-12)
            scale = tuple((largest / 127).tolist())
            weights[op.weight] = QuantParams(scale=scale, zero_point=(0,) * len(scale), axis=axis)
    return Grid(activations=activations, weights=weights)


def output_grids(network: nn.Module, ops: dict[str, Op]) -> list[QuantParams | None]:
    """The grid of each output of the network, in the order of forward; None for one that has none."""
    hooks = Hooks(network)
    grids: list[QuantParams | None] = []
    outputs = [op for op in ops.values() if op.kind == "nncf_model_output"]
    for output in sorted(outputs, key=lambda op: (len(op.name), op.name)):  # 'output_2' before 'output_10'
        name: str | None = output.inputs[0] if output.inputs else None
        while name is not None and hooks.quantizer_after(name) is None:
            moved = ops[name].kind in MOVES_VALUES_ONLY and ops[name].inputs
            name = ops[name].inputs[0] if moved else None
        grids.append(None if name is None else params_of(hooks.quantizer_after(name)))
    return grids


def baked_state(network: nn.Module, ops: dict[str, Op]) -> dict[str, torch.Tensor]:
    """The float network's state with every weight as the hooks make it: masked, quantized, with exact zeros."""
    from nncf.torch.function_hook.pruning.magnitude.modules import UnstructuredPruningMask

    hooks = Hooks(network)
    state = {name: value.clone() for name, value in network.state_dict().items() if not name.startswith("__nncf_hooks")}
    with torch.no_grad():
        for name, hook in hooks.storage.named_hooks(remove_duplicate=False):
            if isinstance(hook, UnstructuredPruningMask):
                parameter = name.removeprefix("post_hooks.").rpartition("__")[0].replace(":", ".")
                state[parameter] *= hook.binary_mask
        for op in ops.values():
            if op.weight is not None and (quantizer := hooks.weight_quantizer(op)) is not None:
                axis = OUTPUT_CHANNEL_AXIS.get(op.kind, 0)
                scale = _broadcast(torch.tensor(params_of(quantizer, axis=axis).scale), state[op.weight].dim(), axis)
                state[op.weight] = torch.round(quantizer(state[op.weight]) / scale) * scale
        for table, quantizer in table_quantizers(network, ops).items():
            state[table] = quantizer(state[table])
    return state


def activation_points(network: nn.Module, ops: dict[str, Op]) -> dict[str, nn.Module]:
    """The activation quantizers by operation name."""
    hooks = Hooks(network)
    return {name: quantizer for name in ops if (quantizer := hooks.quantizer_after(name)) is not None}


def _broadcast(vector: torch.Tensor, dimensions: int, axis: int) -> torch.Tensor:
    return vector if vector.numel() == 1 else vector.reshape([-1 if d == axis else 1 for d in range(dimensions)])
