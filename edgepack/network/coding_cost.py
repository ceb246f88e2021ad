"""What a weight costs to code: an estimate from how full its row and its column are.

An adaptive coder predicts each weight from its neighbours, so a weight among many costs little and a lone one much. Row and column densities of the
2-D view (output channel × the rest) tell that without running a coder, thousands of times in a training. It is an estimate: the coder
itself (`edgepack.codec`) sees more contexts, and learns them as it goes.
"""

from __future__ import annotations

import math

import torch

# A weight that is as likely as not costs nothing more than its value; below 1e-5 the estimate is noise.
_RAREST, _COMMONEST = 1e-5, 0.6
# How many weights a row or column is believed to have before any is seen: no position costs infinitely much.
_PRIOR_WEIGHTS = 0.3


def matrix_view(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """The weight as output channels × the rest; `axis` is that of the output channels."""
    return weight.movedim(axis, 0).flatten(1)


def probability_of(kept: torch.Tensor, axis: int) -> torch.Tensor:
    """How likely an adaptive coder finds a weight at each place, from the density of its row and column (of all, for biases). `kept` is boolean; same shape."""
    if kept.dim() == 1:
        return torch.full(kept.shape, float(kept.float().mean())).clamp(_RAREST, _COMMONEST)
    view = matrix_view(kept, axis).float()
    rows = (view.sum(1, keepdim=True) + _PRIOR_WEIGHTS) / view.shape[1]
    columns = (view.sum(0, keepdim=True) + _PRIOR_WEIGHTS) / view.shape[0]
    product = rows * columns / view.mean().clamp_min(_RAREST)
    moved = kept.movedim(axis, 0)
    return product.clamp(_RAREST, _COMMONEST).reshape(moved.shape).movedim(0, axis)


def bits_to_keep(kept: torch.Tensor, axis: int, *, value_bits: float) -> torch.Tensor:
    """How many more bits each weight costs when it is kept than when it is zero; at least those of its value. Same shape as `kept`."""
    probability = probability_of(kept, axis)
    return (torch.log2(1 - probability) - torch.log2(probability)).clamp_min(0.0) + value_bits


def description_bits(codes: torch.Tensor, axis: int) -> float:
    """Estimated bits of a tensor of small integers: which are not zero, their signs, and their magnitudes' entropy."""
    kept = codes != 0
    probability = probability_of(kept, axis)
    places = -torch.where(kept, torch.log2(probability), torch.log2(1 - probability)).sum()
    return float(places) + int(kept.sum()) * value_bits_of(codes[kept].abs())


def value_bits_of(magnitudes: torch.Tensor) -> float:
    """Bits of a weight that is not zero: its sign, and the entropy of the magnitudes around it."""
    if not magnitudes.numel():
        return 1.0
    counts = torch.unique(magnitudes.round(), return_counts=True)[1].double()
    share = counts / counts.sum()
    return 1.0 + float(-(share * share.log2()).sum())


def guessed_value_bits(levels: int) -> float:
    """The same before there are codes: magnitudes fall off, so they hold about half of what equally likely ones would."""
    return 1.0 + 0.5 * math.log2(levels)
