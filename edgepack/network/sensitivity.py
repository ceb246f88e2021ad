"""How much the outputs of a network change when one of its weights is rounded, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from edgepack.core.errors import DataError, RecipeError, did_you_mean
from edgepack.core.types import Progress, Samples
from edgepack.network.grid import trace
from edgepack.network.grid.operations import OUTPUT_CHANNEL_AXIS
from edgepack.network.losses import output_distance
from edgepack.network.masks import without_hooks
from edgepack.network.model import Model, as_tensors, flat_outputs, is_hooked, lookups_told
from edgepack.network.training import Training

BITS_MIN, BITS_MAX = 2, 16
_BATCH = 8  # of images: with more, most of the time goes into pages of memory
_SQNR_LIMIT_DB = 200.0
DISTILL = Training(steps=1)  # its loss and temperature are those of a recipe that names none


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSensitivity:
    """A weight rounded alone: by parameter name, how far the outputs move, and how far the weight itself does.

    `output_distance` is the mean over samples of the loss of `network.losses`: the Kullback-Leibler divergence of class scores in nats, the mean squared
    error over the variance for outputs of other shapes. `sqnr_db` is the weight's power over that of its rounding error; 200 where it loses nothing.
    """

    weight: str
    parameters: int
    output_distance: float
    sqnr_db: float


def weight_sensitivity(
    model: Model, samples: Samples, *, bits: int, names: Sequence[str] | None = None, progress: Progress
) -> tuple[LayerSensitivity, ...]:
    """The sensitivity of each weight of `names` (None: of all convolutions and linear layers, in order of execution) to `bits`.

    Each is rounded as int kernels count: symmetric, per output channel, narrow range (±7 for 4 bits), so zeros stay zero. What masks removed is zero;
    activations are computed in float. The network is as before afterwards, bit for bit. `samples` need no labels.
    Raises RecipeError for a name that no weight has, DataError where the samples are too few to tell, UnsupportedError where the network can't be traced.
    """
    if not BITS_MIN <= bits <= BITS_MAX:
        raise ValueError(f"bits must lie in {BITS_MIN} … {BITS_MAX}, got {bits}")
    axes = weight_axes(model)
    names = tuple(axes) if names is None else tuple(names)
    network = plain_network(model)
    parameters = dict(network.named_parameters())
    for name in names:
        if name not in parameters or parameters[name].dim() < 2:
            known = [one for one, value in parameters.items() if value.dim() >= 2]
            raise RecipeError(f"sensitivity: the model has no weight '{name}'{did_you_mean(name, known)}")
    progress.start(f"Sensitivity of {len(names)} weights to {bits} bits", total=len(names) + 1)
    reference = Reference(model, network, samples)
    progress.advance()
    found = []
    for name in names:
        weight = parameters[name]
        rounded = round_weight(weight.detach(), bits=bits, axis=axes.get(name, 0))
        with exchanged(weight, rounded):
            distance = reference.distance(network)
        found.append(
            LayerSensitivity(
                weight=name,
                parameters=weight.numel(),
                output_distance=distance,
                sqnr_db=_sqnr_db(weight.detach(), rounded),
            )
        )
        progress.advance(note=f"{name} {distance:.3g}")
    progress.done()
    return tuple(found)


class Reference:
    """The outputs of a network for some samples, computed once, and how far another network's are from them."""

    def __init__(self, model: Model, network: nn.Module, samples: Samples) -> None:
        self._model, self._samples = model, samples
        self._outputs = self._joined(network)
        if any(one.numel() < 2 for one in self._outputs):
            raise DataError(f"{len(samples)} sample of one output value tells no distance; give more samples")

    def distance(self, network: nn.Module) -> float:
        """The mean over samples of the loss of `network.train`, summed over outputs. Raises DataError where it is no number."""
        pairs = zip(self._joined(network), self._outputs, strict=True)
        with torch.no_grad():
            total = sum(float(output_distance(ours, theirs, DISTILL)) for ours, theirs in pairs)
        if not math.isfinite(total):
            raise DataError(
                f"the outputs of {len(self._samples)} samples are at a distance of {total}; look for samples that give no finite output"
            )
        return max(0.0, total)  # rounding of float32 may leave −1e-9 of a divergence that is 0

    def _joined(self, network: nn.Module) -> list[torch.Tensor]:
        network.eval()
        parts: list[tuple[torch.Tensor, ...]] = []
        with torch.no_grad(), lookups_told():
            parts.extend(
                flat_outputs(network(*as_tensors(self._model, batch))) for batch in self._samples.batches(_BATCH)
            )
        return [torch.cat([part[index] for part in parts]).float() for index in range(len(parts[0]))]


@contextmanager
def exchanged(weight: torch.Tensor, values: torch.Tensor) -> Iterator[None]:
    """A weight has other values inside, and its own again afterwards, bit for bit."""
    with torch.no_grad():
        kept = weight.detach().clone()
        weight.copy_(values)
        try:
            yield
        finally:
            weight.copy_(kept)


def plain_network(model: Model) -> nn.Module:
    """The network without hooks: itself where it has none, else a copy in which masks and grids of weights are values."""
    if not is_hooked(model.network):
        return model.network
    return without_hooks(model, trace(model.build().eval(), model.example())).network


def weight_axes(model: Model) -> dict[str, int]:
    """The weights of convolutions and linear layers by parameter name, in order of execution, each with the axis of its output channels."""
    ops = trace(model.build().eval(), model.example())
    return {op.weight: OUTPUT_CHANNEL_AXIS.get(op.kind, 0) for op in ops.values() if op.weight is not None}


def round_weight(weight: torch.Tensor, *, bits: int, axis: int) -> torch.Tensor:
    """The weight on the grid that covers each output channel: codes −(2^(bits−1)−1) … 2^(bits−1)−1, zero exact. Same shape."""
    others = [dimension for dimension in range(weight.dim()) if dimension != axis]
    levels = 2 ** (bits - 1) - 1
    step = weight.abs().amax(dim=others, keepdim=True).clamp_min(1e-12) / levels
    rounded: torch.Tensor = (weight / step).round().clamp(-levels, levels) * step
    return rounded


def _sqnr_db(weight: torch.Tensor, rounded: torch.Tensor) -> float:
    noise = float((weight - rounded).double().square().sum())
    signal = float(weight.double().square().sum())
    if noise == 0:
        return _SQNR_LIMIT_DB
    return max(-_SQNR_LIMIT_DB, min(_SQNR_LIMIT_DB, 10 * math.log10(max(signal, 1e-30) / noise)))
