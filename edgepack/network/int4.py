"""Weights of four bits: quantizers with the codes -7 … 7 in the place of those with -127 … 127."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from nncf.torch.function_hook.pruning.magnitude.algo import get_pruned_modules
from torch import nn

from edgepack.core.types import Progress
from edgepack.network.grid.hooks import Hooks, weight_quantizer
from edgepack.network.grid.operations import OUTPUT_CHANNEL_AXIS, Op
from edgepack.network.second_order import round_by_second_moments

LARGEST_CODE = 7
BITS = 4
# A channel's step lies between these shares of the one that covers its largest weight.
_SMALLEST_SHARE, _STEPS_TRIED = 0.35, 40


def narrow_quantizers(network: nn.Module, ops: dict[str, Op], names: Collection[str]) -> None:
    """Give these weights, by parameter name, quantizers of four bits with the step of the smallest squared error, one per output channel."""
    hooks, made = Hooks(network), dict[str, nn.Module]()
    for op in ops.values():
        if op.weight is None or op.weight not in names:
            continue
        if op.weight not in made:
            made[op.weight] = _quantizer(network.get_parameter(op.weight).detach(), op)
        hooks.clear_before(op.name, 1)
        hooks.place_before(op.name, 1, made[op.weight])


def round_by_inputs(
    network: nn.Module, ops: dict[str, Op], moments: Mapping[str, torch.Tensor], progress: Progress
) -> None:
    """Move these weights, by parameter name, to values on their quantizers' grid that change the layers' outputs least.

    `moments` are those of the layers' inputs (`network.second_order`); other weights are rounded each to the nearest when the network computes.
    """
    progress.start("Rounding weights to 4 bits", total=len(moments))
    hooks, masks = Hooks(network), get_pruned_modules(network)
    quantizers: dict[str, Any] = {
        op.weight: hooks.weight_quantizer(op) for op in ops.values() if op.weight and op.weight in moments
    }
    with torch.no_grad():
        for name, moment in moments.items():
            weight = network.get_parameter(name)
            kept = weight * masks[name].binary_mask if name in masks else weight
            step = quantizers[name].scale / LARGEST_CODE
            weight.copy_(round_by_second_moments(kept, step, moment, largest_code=LARGEST_CODE))
            progress.advance()
    progress.done(f"{len(moments)} by what their layers' inputs look like")


def best_step(weight: torch.Tensor, *, axis: int, largest_code: int = LARGEST_CODE) -> torch.Tensor:
    """The step of each output channel with the smallest squared error of rounding, shaped to divide the weight by.

    With few codes, what clipping a channel's largest weights costs is less than what wide steps cost all others.
    """
    others = [d for d in range(weight.dim()) if d != axis]
    widest = weight.abs().amax(dim=others, keepdim=True).clamp_min(1e-12) / largest_code
    best, smallest = widest.clone(), torch.full_like(widest, math.inf)
    for share in torch.linspace(1.0, _SMALLEST_SHARE, _STEPS_TRIED).tolist():
        step = widest * share
        rounded = (weight / step).round().clamp(-largest_code, largest_code) * step
        error = (rounded - weight).square().sum(dim=others, keepdim=True)
        best, smallest = torch.where(error < smallest, step, best), torch.minimum(error, smallest)
    return best


def _quantizer(weight: torch.Tensor, op: Op) -> nn.Module:
    axis = OUTPUT_CHANNEL_AXIS.get(op.kind, 0)
    quantizer = weight_quantizer(weight, axis=axis, bits=BITS)
    with torch.no_grad():
        quantizer.scale.copy_(best_step(weight, axis=axis) * LARGEST_CODE)  # type: ignore[operator]
    return quantizer
