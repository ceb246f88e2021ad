"""How images lie in memory while a network trains: channels last where it can work so, which convolutions on a CPU are faster with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from edgepack.network.model import flat_outputs, is_hooked

_SHARE_APART = 1e-3  # of the largest output: what the order makes in which float32 is added up
_SHARE_APART_HOOKED = 0.1  # where that moves a value to the next step of a grid


def fastest_layout(networks: Sequence[nn.Module], inputs: tuple[torch.Tensor, ...]) -> torch.memory_format:
    """`torch.channels_last` where every network has 2-D convolutions and takes its images so, else `torch.contiguous_format`.

    Weights lie so afterwards, too, but for those of networks with hooks, whose owners may count on how they lay. `inputs` are two samples or more. A forward that asks
    for its tensors' strides tells by failing (`view` after a convolution, for one), or by other outputs (`as_strided`).
    """
    convolves = all(any(isinstance(layer, nn.Conv2d) for layer in network.modules()) for network in networks)
    wanted = convolves and any(tensor.dim() == 4 for tensor in inputs)
    layout = torch.channels_last if wanted and _runs(networks, inputs) else torch.contiguous_format
    for network in networks:
        lay(network, layout)
    return layout


def _runs(networks: Sequence[nn.Module], inputs: tuple[torch.Tensor, ...]) -> bool:
    """Whether each forward takes channels last, and gives the same."""
    with torch.no_grad():
        for network in networks:
            wanted = flat_outputs(network(*inputs))
            try:
                found = flat_outputs(lay(network, torch.channels_last)(*laid(inputs, torch.channels_last)))
            except Exception:  # noqa: BLE001  # whatever a user's forward says of it: it has just run with the other layout
                return False
            share = _SHARE_APART_HOOKED if is_hooked(network) else _SHARE_APART
            if not all(_is_close(*pair, share) for pair in zip(found, wanted, strict=True)):
                return False
    return True


def _is_close(found: torch.Tensor, wanted: torch.Tensor, share: float) -> bool:
    """Whether no output differs by more than this share of the largest."""
    if found.shape != wanted.shape:
        return False
    apart, largest = (found.double() - wanted.double()).abs(), wanted.double().abs()
    return bool((apart <= share * largest.max().clamp_min(1e-6)).all()) if apart.numel() else True


def lay(network: nn.Module, layout: torch.memory_format) -> nn.Module:
    """The network itself, its weights of four dimensions in this layout: the same values. One with hooks stays as it is."""
    if not is_hooked(network):
        network.to(memory_format=layout)  # type: ignore[call-overload]  # torch knows it, its stubs do not
    return network


def laid(inputs: tuple[torch.Tensor, ...], layout: torch.memory_format) -> tuple[torch.Tensor, ...]:
    """Inputs of four dimensions in this layout, the others as they are."""
    return tuple(tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor for tensor in inputs)
