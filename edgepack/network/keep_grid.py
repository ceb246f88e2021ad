"""Keeping the grid of an older model: quantizers get its scales and zero points, and no training moves them.

A file's weights have batch norm folded in, and so have the scales that an older bundle tells. A quantizer works on the weight before that, so its
scale is the older one divided by what *this* network's batch norm multiplies by. That factor must then stay: its parameter is frozen, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from edgepack.core.errors import RecipeError
from edgepack.core.types import Array, Grid, QuantParams
from edgepack.network.fold import program_of
from edgepack.network.grid import activation_points, baked_state
from edgepack.network.grid.hooks import Hooks
from edgepack.network.grid.operations import OUTPUT_CHANNEL_AXIS, Op
from edgepack.network.model import Model
from edgepack.network.program import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was kept: how many weights lie outside the older range and are cut to its ends, of how many, and whose grid is a new one."""

    model: Model
    clipped: int
    weights: int
    fitted: tuple[str, ...]


def keep_grid(model: Model, ops: dict[str, Op], base: Grid) -> Kept:
    """Put the older grid on a network that has every quantizer, and pin it.

    `ops` are the float network's operations. Raises RecipeError for an activation or a channel that the older grid doesn't have.
    """
    _keep_activations(model, ops, base)
    layers = {layer.name: layer for layer in _unit_layers(model, ops)}
    hooks, clipped, weights, fitted = Hooks(model.network), 0, 0, []
    for op in ops.values():
        quantizer = None if op.weight is None else hooks.weight_quantizer(op)
        if op.weight is None or quantizer is None:
            continue
        if op.weight not in base.weights or op.weight not in layers:
            fitted.append(op.weight)
            continue
        weight = model.network.get_parameter(op.weight).detach()
        axis = OUTPUT_CHANNEL_AXIS.get(op.kind, 0)
        step = _step(base.weights[op.weight], layers[op.weight], op.weight)
        shaped = step.reshape(quantizer.scale.shape)
        with torch.no_grad():
            quantizer.scale.copy_(shaped * quantizer.level_high)
        along = step if step.numel() == 1 else step.reshape([-1 if d == axis else 1 for d in range(weight.dim())])
        clipped += int(((weight / along).abs() > quantizer.level_high + 0.5).sum())
        weights += weight.numel()
    frozen = frozenset(_quantizers(hooks)) | model.frozen
    for layer in layers.values():
        if layer.scaled_by is not None:
            model.network.get_parameter(layer.scaled_by).requires_grad_(False)
    kept = replace(model, frozen=frozen, pinned=base)
    return Kept(model=kept, clipped=clipped, weights=weights, fitted=tuple(dict.fromkeys(fitted)))


def keep_codes(model: Model, ops: dict[str, Op], codes: Mapping[str, Array], *, tolerance: float) -> int:
    """Give weights on a pinned grid their older codes back where they lie within half a step and `tolerance` of them; how many keep theirs.

    What is kept so, and not rounded to the nearest code, is off by no more than `tolerance` more, and needs no bytes in an update. `codes` are as files have
    them, with batch norm's signs.
    """
    layers, hooks, kept = {layer.name: layer for layer in _unit_layers(model, ops)}, Hooks(model.network), 0
    for op in ops.values():
        quantizer = None if op.weight is None else hooks.weight_quantizer(op)
        if op.weight is None or quantizer is None or op.weight not in codes or op.weight not in layers:
            continue
        weight = model.network.get_parameter(op.weight)
        if codes[op.weight].shape != weight.shape:
            continue
        others = [axis for axis in range(weight.dim()) if axis != OUTPUT_CHANNEL_AXIS.get(op.kind, 0)]
        raw = weight.detach()
        folded = torch.from_numpy(layers[op.weight].weight)
        sign = torch.where((folded * raw).sum(dim=others, keepdim=True) < 0, -1.0, 1.0)
        step = quantizer.scale.detach() / quantizer.level_high
        older = torch.from_numpy(codes[op.weight]).float() * sign
        close = (raw / step - older).abs() <= 0.5 + tolerance
        with torch.no_grad():
            weight.copy_(torch.where(close, older * step, raw))
        kept += int(close.sum())
    return kept


def _keep_activations(model: Model, ops: dict[str, Op], base: Grid) -> None:
    points: dict[str, Any] = activation_points(model.network, ops)
    differing = sorted(points.keys() ^ base.activations.keys())
    if differing:
        raise RecipeError(
            f"update_of: another architecture: '{differing[0]}' has a grid {'here' if differing[0] in points else 'in the base'} only; "
            "name a bundle of the same model, or leave 'update_of' out to fit new scales"
        )
    with torch.no_grad():
        for name, quantizer in points.items():
            scale, zero_point = base.activations[name].scale[0], base.activations[name].zero_point[0]
            if hasattr(quantizer, "input_low"):
                quantizer.input_low.fill_((-128 - zero_point) * scale)
                quantizer.input_range.fill_((quantizer.levels - 1) * scale)
            else:
                quantizer.scale.fill_(scale * quantizer.level_high)


def _unit_layers(model: Model, ops: dict[str, Op]) -> tuple[Layer, ...]:
    """The layers with every weight on a grid of step 1, so that the folded step is the factor of batch norm alone."""
    network = model.build().eval()
    network.load_state_dict(baked_state(model.network, ops))
    ones = {}
    for op in ops.values():
        if op.weight is not None:
            axis = OUTPUT_CHANNEL_AXIS.get(op.kind, 0)
            channels = network.get_parameter(op.weight).shape[axis]
            ones[op.weight] = QuantParams(scale=(1.0,) * channels, zero_point=(0,) * channels, axis=axis)
    grid = Grid(activations={}, weights=ones)
    return program_of(replace(model, network=network, frozen=frozenset(), pinned=None), made_up=grid).layers


def _step(base: QuantParams, layer: Layer, name: str) -> torch.Tensor:
    assert layer.params is not None
    folded, factor = (
        torch.tensor(base.scale, dtype=torch.float64),
        torch.tensor(layer.params.scale, dtype=torch.float64),
    )
    if folded.shape != factor.shape:
        raise RecipeError(
            f"update_of: another architecture: '{name}' has {folded.numel()} channels in the base and {factor.numel()} here; "
            "name a bundle of the same model, or leave 'update_of' out to fit new scales"
        )
    return (folded / factor).float()


def _quantizers(hooks: Hooks) -> list[str]:
    from nncf.torch.quantization.layers import BaseQuantizer

    return [name for name, hook in hooks.storage.named_hooks(remove_duplicate=False) if isinstance(hook, BaseQuantizer)]
