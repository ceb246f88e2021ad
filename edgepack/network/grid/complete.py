"""Completing the grid that NNCF begins: quantizers are added, merged and pinned until the target's rules hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from edgepack.network.grid.hooks import Hooks, activation_quantizer, suits, weight_quantizer
from edgepack.network.grid.operations import OUTPUT_CHANNEL_AXIS, WEIGHTED, Op
from edgepack.network.grid.rules import MOVES_VALUES_ONLY, Constraints, fixed_range, groups_of, refuse_computed_weights

# Above, ranges are the extremes that are measured here: steps are fine enough, and NNCF's estimators cut values off to make 8-bit steps finer.
_LEARNED_BITS_MAX = 8


def complete_grid(
    network: nn.Module, ops: dict[str, Op], constraints: Constraints, batches: Iterable[tuple[torch.Tensor, ...]]
) -> frozenset[str]:
    """Give every tensor that the target keeps a grid, and make those equal that must be.

    `network` comes from `nncf.quantize`; `batches` measure the ranges of quantizers that are added. Answers the names of the hooks whose
    range is fixed. Raises UnsupportedError where the target's rules contradict each other, naming the operators.
    """
    hooks = Hooks(network)
    _weights_have_one_quantizer_each(hooks, network, ops, constraints)
    _move_input_quantizers_to_producers(hooks, ops)
    _drop_quantizers_of_constants(hooks, ops)
    groups = groups_of(ops, constraints)
    is_wide = constraints.activations_bits > _LEARNED_BITS_MAX
    missing = [
        members
        for members in groups
        if (is_wide or not any(hooks.quantizer_after(name) for name in members))
        and fixed_range(members, ops, constraints) is None
    ]
    ranges = _measure(network, hooks, missing, batches)
    frozen: set[str] = set()
    for members in groups:
        fixed = fixed_range(members, ops, constraints)
        bounds = fixed or ranges.get(members[0]) or _union(hooks.quantizer_after(name) for name in members)
        existing = [quantizer for name in members if (quantizer := hooks.quantizer_after(name)) is not None]
        alone = existing[0] if len(existing) == 1 and fixed is None and not is_wide else None
        bits, symmetric = constraints.activations_bits, constraints.activations_symmetric
        reuse = alone if alone is not None and suits(alone, bits=bits, symmetric=symmetric) else None
        quantizer = reuse or activation_quantizer(bounds, bits=bits, symmetric=symmetric)
        for name in members:
            hooks.clear_after(name)
            if ops[name].kind not in MOVES_VALUES_ONLY:
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


def _weights_have_one_quantizer_each(
    hooks: Hooks, network: nn.Module, ops: dict[str, Op], constraints: Constraints
) -> None:
    """Add the weight quantizers that NNCF left out, and let a weight that is used twice have one quantizer."""
    refuse_computed_weights(ops)
    by_weight: dict[str, nn.Module] = {}
    for op in ops.values():
        if op.weight is None:
            continue
        quantizer = by_weight.get(op.weight) or hooks.weight_quantizer(op)
        if quantizer is None:
            axis = OUTPUT_CHANNEL_AXIS.get(op.kind, 0)
            quantizer = weight_quantizer(network.get_parameter(op.weight), axis=axis, bits=constraints.weights_bits)
        by_weight[op.weight] = quantizer
        if hooks.weight_quantizer(op) is not quantizer:
            hooks.clear_before(op.name, 1)
            hooks.place_before(op.name, 1, quantizer)


def _move_input_quantizers_to_producers(hooks: Hooks, ops: dict[str, Op]) -> None:
    """A tensor has one grid: a quantizer before an operation's input belongs after the operation that makes it."""
    for op in ops.values():
        for port, source in enumerate(op.inputs):
            if port == 1 and op.kind in WEIGHTED:
                continue
            quantizer = hooks.quantizer_before(op.name, port)
            if quantizer is not None:
                hooks.clear_before(op.name, port)
                if hooks.quantizer_after(source) is None:
                    hooks.place_after(source, quantizer)


def _drop_quantizers_of_constants(hooks: Hooks, ops: dict[str, Op]) -> None:
    """What an embedding looks up, or a sum adds, has the grid of the outcome: NNCF would round it a second time, as no kernel does."""
    kept = {(op.name, 1) for op in ops.values() if op.weight is not None}
    for name, port in hooks.quantized_inputs():
        if (name, port) not in kept:
            hooks.clear_before(name, port)


class _MinMax(nn.Module):
    """Remembers the smallest and largest value that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = 0.0, 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        return x


def _measure(
    network: nn.Module, hooks: Hooks, groups: list[tuple[str, ...]], batches: Iterable[tuple[torch.Tensor, ...]]
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
