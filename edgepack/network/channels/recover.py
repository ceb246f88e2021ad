"""What a network wins back of what it lost with some channels, before any training: by a fit of its layers, or by batch norms measured anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from edgepack.core.types import Samples
from edgepack.network.channels.lockstep import Batch
from edgepack.network.channels.norms import measure_anew
from edgepack.network.channels.refit import refit
from edgepack.network.model import Model, as_tensors, flat_outputs

_TEMPERATURES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
_BATCH = 8  # of images: with more, most of the time goes into pages of memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """`fitted` are the layers whose weights were fitted; empty where new statistics came nearer, or no fit held. Both distances are those of `distance`."""

    fitted: tuple[str, ...]
    distance_measured: float
    distance_fitted: float


def recover(
    model: Model, before: nn.Module, rows: Mapping[str, torch.Tensor], samples: Sequence[Batch], judges: Samples
) -> Recovered:
    """Leaves in `model.network` what comes nearer to the outputs of `before` for the samples that judge: its layers fitted (`refit`, which says what `rows` and
    `samples` are), or nothing but its batch norms' statistics measured anew.

    Not both: a fit brings each layer back to the outputs that its batch norm's statistics are of, and those come from all that the network was trained on.
    """
    network = model.network
    bare = {name: value.clone() for name, value in network.state_dict().items()}
    measure_anew(network, samples)
    measured = {name: value.clone() for name, value in network.state_dict().items()}
    distance_measured = distance(model, network, before, judges)
    network.load_state_dict(bare)
    fitted = refit(network, before, rows, samples)
    distance_fitted = distance(model, network, before, judges)
    if not distance_fitted < distance_measured:
        fitted = []
        network.load_state_dict(measured)
    return Recovered(fitted=tuple(fitted), distance_measured=distance_measured, distance_fitted=distance_fitted)


def distance(model: Model, network: nn.Module, reference: nn.Module, samples: Samples) -> float:
    """How far a network's outputs are from another's, the mean over samples, summed over outputs; 0 for the same.

    Of class scores (N, classes) the Kullback-Leibler divergence in nats, of other shapes the squared error over the variance: each after the network's confidence, or the
    outputs' scale, is set right by one factor, which a training finds in its first steps.
    """
    ours, theirs = _outputs(model, network, samples), _outputs(model, reference, samples)
    return sum(_distance(one, wanted) for one, wanted in zip(ours, theirs, strict=True))


def _distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    if ours.dim() != 2 or ours.shape[1] < 2:
        scale = (ours * theirs).sum() / ours.square().sum().clamp_min(1e-12)
        return _told((scale * ours - theirs).square().mean() / theirs.var(correction=0).clamp_min(1e-12))
    wanted = functional.log_softmax(theirs, dim=1)
    apart = [
        functional.kl_div(functional.log_softmax(ours / one, dim=1), wanted, reduction="batchmean", log_target=True)
        for one in _TEMPERATURES
    ]
    return max(0.0, min(_told(one) for one in apart))


def _told(distance: torch.Tensor) -> float:
    """A number that can be compared: what can't be computed is infinitely far."""
    return float(distance.nan_to_num(nan=torch.inf, posinf=torch.inf))


def _outputs(model: Model, network: nn.Module, samples: Samples) -> list[torch.Tensor]:
    network.eval()
    with torch.no_grad():
        parts = [flat_outputs(network(*as_tensors(model, batch))) for batch in samples.batches(_BATCH)]
    return [torch.cat(one).float() for one in zip(*parts, strict=True)]
