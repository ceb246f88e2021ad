"""What a network costs to run, counted layer by layer: multiply-accumulates of convolutions and linear layers, and parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def uses_of(network: nn.Module, example: tuple[torch.Tensor, ...]) -> dict[str, int]:
    """How often each weight is multiplied in one inference, by the name of the parameter: positions of the output, or of a transposed
    convolution's input. `example` is a batch of one. Counted at the layers themselves, so subclasses are seen, too."""
    uses: dict[str, int] = {}

    def count(name: str, transposed: bool) -> object:
        def hook(_layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            tensor = inputs[0] if transposed else output
            channels_last = isinstance(_layer, nn.Linear)
            positions = tensor.numel() // tensor.shape[-1 if channels_last else 1]
            uses[f"{name}.weight"] = uses.get(f"{name}.weight", 0) + positions

        return hook

    handles = [
        layer.register_forward_hook(count(name, bool(getattr(layer, "transposed", False))))  # type: ignore[arg-type]
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear))
    ]
    try:
        with torch.no_grad():
            network.eval()(*example)
    finally:
        for handle in handles:
            handle.remove()
    return uses


def macs_of(state: Mapping[str, torch.Tensor], uses: Mapping[str, int]) -> int:
    """Multiply-accumulates of one inference with these weights. Removing channels changes weights, never how often each is used."""
    return sum(state[name].numel() * times for name, times in uses.items())


def parameters_of(state: Mapping[str, torch.Tensor], names: frozenset[str]) -> int:
    """Number of values of the parameters with these names."""
    return sum(value.numel() for name, value in state.items() if name in names)
