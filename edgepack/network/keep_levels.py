"""Weights that have few levels keep them: `quantize` gets their step, and as few codes as they have.

A grid that covers a weight's largest value with 127 steps would round ±1, ±2, ±3 steps to ±42, ±85, ±127: as exact, but training would then fill the
codes between them, and the file would no longer code small.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from edgepack.core.errors import StageError
from edgepack.network.grid.hooks import Hooks, weight_quantizer
from edgepack.network.grid.operations import OUTPUT_CHANNEL_AXIS, Op

# Of a step: how far a weight may lie from a level and still be that level, rounded in float32.
_TOLERANCE = 1e-3


def keep_levels(network: nn.Module, ops: dict[str, Op], levels: Mapping[str, int]) -> frozenset[str]:
    """Replace the quantizers of these weights (by parameter name; the largest code of each) and answer the new ones' names, to be frozen.

    Raises StageError for a weight that doesn't lie on so few levels.
    """
    hooks, made, placed = Hooks(network), {}, set()
    for op in ops.values():
        if op.weight is None or op.weight not in levels:
            continue
        if op.weight not in made:
            made[op.weight] = _quantizer(network.get_parameter(op.weight).detach(), op, levels[op.weight])
        hooks.clear_before(op.name, 1)
        placed.add(hooks.place_before(op.name, 1, made[op.weight]))
    return frozenset(placed)


def keep_biases(network: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Put these biases back as they were, by parameter name, and let no training move them."""
    with torch.no_grad():
        for name, value in values.items():
            network.get_parameter(name).copy_(value).requires_grad_(False)


def keep_shared(network: nn.Module, shared: Mapping[str, int]) -> None:
    """Let no training move weights that share values, by parameter name with how many values there are.

    Raises StageError for a weight that has more values by now.
    """
    for name, count in shared.items():
        weight = network.get_parameter(name)
        if np.unique(weight.detach().numpy()).size > count:
            raise StageError(
                f"{name}: the weight has more than the {count} values that it shares; a step between 'palettize' and 'quantize' has moved it"
            )
        weight.requires_grad_(False)


def biases_with_levels(network: nn.Module, levels: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Copies of the biases among what has few levels, by parameter name."""
    found = {name: network.get_parameter(name).detach().clone() for name in levels}
    return {name: value for name, value in found.items() if value.dim() == 1}


def step_of(weight: torch.Tensor, levels: int, *, axis: int) -> torch.Tensor | None:
    """The step of a weight whose values are step × (-levels … levels): one for all, else one per output channel; None where neither fits.

    Shaped to divide the weight by. A channel of zeros has step 1.
    """
    others = [d for d in range(weight.dim()) if d != axis]
    for dimensions in (list(range(weight.dim())), others):
        largest = weight.abs().amax(dim=dimensions, keepdim=True)
        step = torch.zeros_like(largest)
        for code in range(1, levels + 1):  # the largest step that fits: the smallest codes
            candidate = torch.where(largest > 0, largest / code, 1.0)
            ratio = weight / candidate
            fits = ((ratio - ratio.round()).abs() < _TOLERANCE).all(dim=dimensions[0], keepdim=True)
            for dimension in dimensions[1:]:
                fits = fits.all(dim=dimension, keepdim=True)
            step = torch.where((step == 0) & fits, candidate, step)
        if bool((step > 0).all()):
            return step
    return None


def _quantizer(weight: torch.Tensor, op: Op, levels: int) -> nn.Module:
    axis = OUTPUT_CHANNEL_AXIS.get(op.kind, 0)
    step = step_of(weight, levels, axis=axis)
    if step is None:
        raise StageError(
            f"{op.weight}: the weight no longer lies on {2 * levels + 1} levels; a step between the one that made them and 'quantize' has moved it"
        )
    quantizer: Any = weight_quantizer(weight, axis=axis, bits=levels.bit_length() + 1)
    with torch.no_grad():
        quantizer.scale.copy_((step * levels).expand_as(quantizer.scale))
    made: nn.Module = quantizer
    return made
