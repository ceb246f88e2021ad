"""Weights of few levels while they are trained: zero where masked, else a small integer times a learned step.

The step is learned as in LSQ (Esser et al. 2020, arXiv:1902.08153); here its logarithm is, so that one learning rate suits steps of any size.
While gradients pass, their squares are averaged: the diagonal of the empirical Fisher information, which says what removing a weight costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

# How slowly the mean of squared gradients forgets: about the last hundred steps count.
_FISHER_MEMORY = 0.99
_STEP_CANDIDATES = 60


class FewLevels(nn.Module):
    """A parametrization of one weight: `levels` is the largest code, `axis` the output channels, which have a step each if `per_channel`."""

    mask: torch.Tensor
    allowed: torch.Tensor
    fisher: torch.Tensor
    is_quantizing: torch.Tensor

    def __init__(self, weight: torch.Tensor, *, levels: int, axis: int, per_channel: bool) -> None:
        super().__init__()
        self.levels, self.axis = levels, axis
        shape = [weight.shape[axis] if per_channel and d == axis else 1 for d in range(weight.dim())]
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self.register_buffer("allowed", torch.ones_like(weight, dtype=torch.bool))
        self.register_buffer("fisher", torch.zeros_like(weight))
        self.register_buffer("is_quantizing", torch.zeros((), dtype=torch.bool))
        self.log_step = nn.Parameter(torch.zeros(shape))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the network computes with."""
        result: torch.Tensor = _Rounded.apply(weight, self.log_step, self)  # type: ignore[no-untyped-call]  # torch has no types here
        return result

    def codes(self, weight: torch.Tensor) -> torch.Tensor:
        """The integers -levels … levels, as floats; 0 where masked."""
        return (weight / self.log_step.exp()).round().clamp(-self.levels, self.levels) * self.mask

    def begin_quantizing(self, weight: torch.Tensor) -> None:
        """Round from now on. The first step is the one with the smallest squared error over the kept weights."""
        magnitudes = (weight.detach() * self.mask).abs()
        others = [d for d in range(weight.dim()) if self.log_step.shape[d] == 1]
        largest = magnitudes.amax(dim=others, keepdim=True).clamp_min(1e-12)
        best = torch.full_like(largest, math.inf)
        for share in torch.linspace(0.25, 1.1, _STEP_CANDIDATES).tolist():
            step = largest * share / self.levels
            error = (((magnitudes / step).round().clamp(max=self.levels) * step - magnitudes) ** 2).sum(
                dim=others, keepdim=True
            )
            self.log_step.data = torch.where(error < best, step.log(), self.log_step.data)
            best = torch.minimum(best, error)
        self.is_quantizing.fill_(True)


class _Rounded(torch.autograd.Function):
    """Mask and round forwards; backwards straight through (arXiv:1308.3432), with LSQ's gradient for the step."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, log_step: torch.Tensor, layer: FewLevels) -> torch.Tensor:
        ctx.layer = layer
        if not layer.is_quantizing:
            return weight * layer.mask
        step = log_step.exp()
        ratio = weight / step
        codes = ratio.round().clamp(-layer.levels, layer.levels)
        ctx.save_for_backward(ratio, codes, step)
        return codes * step * layer.mask

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), layer = gradients, ctx.layer
        layer.fisher.mul_(_FISHER_MEMORY).addcmul_(gradient, gradient, value=1 - _FISHER_MEMORY)
        kept = gradient * layer.mask
        if not layer.is_quantizing:
            return kept, None, None
        ratio, codes, step = ctx.saved_tensors
        inside = ratio.abs() <= layer.levels
        others = [d for d in range(kept.dim()) if step.shape[d] == 1]
        by_step = (kept * torch.where(inside, codes - ratio, codes)).sum(dim=others, keepdim=True) * step
        scale = (layer.levels * layer.mask.sum(dim=others, keepdim=True).clamp_min(1)).sqrt()
        return kept * inside, by_step / scale, None


def attach(network: nn.Module, name: str, *, levels: int, axis: int, per_channel: bool) -> FewLevels:
    """Let a weight, by its parameter name, have few levels from now on."""
    module, attribute = _place(network, name)
    layer = FewLevels(getattr(module, attribute).detach(), levels=levels, axis=axis, per_channel=per_channel)
    parametrize.register_parametrization(module, attribute, layer)
    return layer


def latent(network: nn.Module, name: str) -> nn.Parameter:
    """The unrounded values behind a weight that `attach` was called for."""
    module, attribute = _place(network, name)
    original: nn.Parameter = module.parametrizations[attribute].original  # type: ignore[union-attr, index]
    return original


def computed(network: nn.Module, name: str) -> torch.Tensor:
    """The weight that the network computes with."""
    module, attribute = _place(network, name)
    values: torch.Tensor = getattr(module, attribute)
    return values.detach()


def biases_beside(network: nn.Module, weights: Iterable[str]) -> list[str]:
    """The biases of the layers that have these weights, by parameter name."""
    parameters = dict(network.named_parameters())
    names = [f"{owner}{dot}bias" for owner, dot, _ in (name.rpartition(".") for name in weights)]
    return [name for name in dict.fromkeys(names) if name in parameters and parameters[name].dim() == 1]


def _place(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    owner, _, attribute = name.rpartition(".")
    return network.get_submodule(owner), attribute
