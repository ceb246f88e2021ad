"""A layer as a sequence of smaller ones: their shapes, and the values that come closest to the layer's own.

SVD: W ≈ (U√S)(√S Vᵀ). Tucker-2 (Kim et al. 2016, arXiv:1511.06530): a 1×1 convolution to fewer channels, the k×k core among these, a 1×1 convolution back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

# By layer: one rank of an SVD, or those of Tucker-2 on the side of the inputs and of the outputs, where 0 leaves the side whole.
Ranks = Mapping[str, tuple[int, ...]]
_KINDS: tuple[Any, ...] = (nn.Linear, nn.Conv1d, nn.Conv2d)
_REFINEMENTS = 4


def with_factors(build: Callable[[], nn.Module], ranks: Ranks) -> Callable[[], nn.Module]:
    """A builder of the same architecture with some layers as sequences; values are loaded afterwards."""
    return partial(_built, build, {name: tuple(own) for name, own in ranks.items()}) if ranks else build


def kind_of(layer: nn.Module) -> Any | None:
    """Linear, Conv1d or Conv2d where the layer computes just what these do; None for any other, subclasses with a forward of their own included."""
    own: Any = type(layer)
    for kind in _KINDS:
        if isinstance(layer, kind) and own.forward is kind.forward:
            return kind if kind is nn.Linear or own._conv_forward is kind._conv_forward else None
    return None


def taps_of(layer: Any) -> int:
    """Places of a layer's kernel; 1 for a linear layer."""
    return int(layer.weight[0, 0].numel())


def empty_factors(layer: Any, ranks: tuple[int, ...]) -> nn.Sequential:
    """The layers that stand for one, with zeros for values."""
    outward, inward = layer.weight.shape[:2]
    has_bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        (rank,) = ranks
        return nn.Sequential(
            _zeros(nn.Linear, inward, rank, bias=False), _zeros(nn.Linear, rank, outward, bias=has_bias)
        )
    kind = kind_of(layer)
    own = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation,
           "padding_mode": layer.padding_mode}  # fmt: skip
    if len(ranks) == 1:
        first = _zeros(kind, inward, ranks[0], 1, bias=False, **own)
        return nn.Sequential(first, _zeros(kind, ranks[0], outward, 1, bias=has_bias))
    inner, outer = ranks
    core = _zeros(kind, inner or inward, outer or outward, layer.kernel_size, bias=has_bias and not outer, **own)
    parts = [_zeros(kind, inward, inner, 1, bias=False)] if inner else []
    parts += [core, *([_zeros(kind, outer, outward, 1, bias=has_bias)] if outer else [])]
    return nn.Sequential(*parts)


def factored(layer: Any, ranks: tuple[int, ...]) -> nn.Sequential:
    """The layers that stand for one, with the values that come closest to its own (in the sum of squares)."""
    parts = empty_factors(layer, ranks)
    weight = layer.weight.detach().double()
    values = _svd(weight, ranks[0]) if len(ranks) == 1 else _tucker(weight, *ranks)
    with torch.no_grad():
        for part, value in zip(parts, values, strict=True):
            own: Any = part
            own.weight.copy_(value.reshape(own.weight.shape))
        if layer.bias is not None:
            last: Any = parts[-1]
            last.bias.copy_(layer.bias)
    return parts


def _built(build: Callable[[], nn.Module], ranks: Ranks) -> nn.Module:
    network = build()
    for name, own in ranks.items():
        network.set_submodule(name, empty_factors(network.get_submodule(name), own))
    return network


def _zeros(kind: Any, *sizes: Any, **options: Any) -> Any:
    """A layer full of zeros. (Initial values would cost time, and draw from torch's generator.)"""
    layer = kind(*sizes, **options, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    return layer


def _svd(weight: torch.Tensor, rank: int) -> list[torch.Tensor]:
    left, values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    roots = values[:rank].sqrt()
    return [roots[:, None] * right[:rank], left[:, :rank] * roots]


def _tucker(weight: torch.Tensor, inner: int, outer: int) -> list[torch.Tensor]:
    """The factor of the inputs (inner, in), the core (outer, inner, …) and that of the outputs (out, outer), by orthogonal iteration (HOOI,
    De Lathauwer et al. 2000). A side that stays whole has no factor."""
    taps = weight.flatten(2)
    of_inputs = _directions(taps.transpose(0, 1), inner) if inner else None
    of_outputs = _directions(taps, outer) if outer else None
    for _ in range(_REFINEMENTS if inner and outer else 0):
        assert of_inputs is not None and of_outputs is not None
        of_outputs = _directions(torch.einsum("oit,ir->ort", taps, of_inputs), outer)
        of_inputs = _directions(torch.einsum("oit,or->irt", taps, of_outputs), inner)
    core = taps if of_inputs is None else torch.einsum("oit,ir->ort", taps, of_inputs)
    core = core if of_outputs is None else torch.einsum("oit,or->rit", core, of_outputs)
    parts = [] if of_inputs is None else [of_inputs.T]
    return [*parts, core, *([] if of_outputs is None else [of_outputs])]


def _directions(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """The first left singular vectors of a tensor unfolded along its first dimension: (rows, count)."""
    rows = tensor.flatten(1)
    vectors: torch.Tensor = torch.linalg.eigh(rows @ rows.T).eigenvectors  # values rise
    return vectors[:, -count:].flip(1)
