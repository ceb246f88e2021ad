"""Which part of a network's way to another each tensor is to blame for: integrated gradients along the straight line between their values."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from edgepack.core.types import Progress, Samples
from edgepack.explain.original_form import explicit_norms
from edgepack.network.losses import output_distance
from edgepack.network.model import Model, as_tensors, flat_outputs, float_network
from edgepack.network.sensitivity import DISTILL

_NODES = 8
_BATCH = 32


def contributions_along(
    model: Model, ours: Mapping[str, torch.Tensor], samples: Samples, progress: Progress
) -> dict[str, float]:
    """By tensor name its part of the distance that the outputs move when the values of `model` become `ours`: parts add up to that distance.

    Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) over weights instead of inputs, by Gauss-Legendre quadrature at 8 points: each tensor gets
    the integral of its gradient times its change. A part is negative where the change undoes some of what others do. {} where nothing has changed.
    """
    network = float_network(model)
    start = {name: value.detach().clone() for name, value in network.state_dict().items()}
    changed = [
        name for name, value in start.items() if value.is_floating_point() and not torch.equal(value, ours[name])
    ]
    if not changed:
        return {}
    explicit_norms(network)
    points, weights = np.polynomial.legendre.leggauss(_NODES)
    found = dict.fromkeys(changed, 0.0)
    progress.start("Whose loss it is", total=_NODES)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        state = {
            name: torch.lerp(value, ours[name], float(point)) if name in found else value
            for name, value in start.items()
        }
        for name, slope in _slopes(model, network, start, state, changed, samples).items():
            found[name] += float(weight) * float((slope.double() * (ours[name] - start[name]).double()).sum())
        progress.advance()
    progress.done()
    return found


def _slopes(
    model: Model,
    network: nn.Module,
    start: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
    changed: list[str],
    samples: Samples,
) -> dict[str, torch.Tensor]:
    """The gradient of the distance from the outputs of `start` at `state`, by tensor name."""
    values = {name: value.clone().requires_grad_(name in changed) for name, value in state.items()}
    total: dict[str, torch.Tensor] = {name: torch.zeros_like(values[name]) for name in changed}
    for places in np.array_split(np.arange(len(samples)), math.ceil(len(samples) / _BATCH)):
        batch = samples.take(places)
        inputs = as_tensors(model, batch)
        with torch.no_grad():
            wanted = flat_outputs(functional_call(network, dict(start), inputs))
        given = flat_outputs(functional_call(network, values, inputs))
        pairs = [(a, b) for a, b in zip(given, wanted, strict=True) if a.requires_grad]
        loss = torch.stack([output_distance(a, b, DISTILL) for a, b in pairs]).sum()
        slopes = torch.autograd.grad(loss, [values[name] for name in changed], allow_unused=True)
        for name, slope in zip(changed, slopes, strict=True):
            if slope is not None:
                total[name] += slope * (len(batch) / len(samples))
    return total
