"""Which ranks a layer needs to keep a share of its energy, and what it then costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgepack.network.low_rank.layers import kind_of, taps_of

Measure = Literal["macs", "parameters"]
_BISECTIONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """One layer: `outward` × `inward` channels with `taps` places of the kernel, used `made` times in one inference for a batch of one; a 1×1 convolution
    before it is used `read` times. `energies` holds, for r = 1, 2, …, the share of the sum of squared singular values in the r largest: of the
    weight (SVD), or of its unfoldings along inputs and outputs (Tucker-2)."""

    name: str
    outward: int
    inward: int
    taps: int
    made: int
    read: int
    energies: tuple[NDArray[np.float64], ...]

    def cost(self, ranks: tuple[int, ...] | None, measure: Measure) -> int:
        """Multiply-accumulates or weights with these ranks; None: as the layer is."""
        made, read = (self.made, self.read) if measure == "macs" else (1, 1)
        if ranks is None:
            return self.outward * self.inward * self.taps * made
        if len(ranks) == 1:
            return ranks[0] * (self.inward + self.outward) * made
        inner, outer = ranks
        core = (inner or self.inward) * (outer or self.outward) * self.taps * made
        return inner * self.inward * read + core + outer * self.outward * made

    def ranks_for(self, energy: float, measure: Measure, *, round_to: int = 1) -> tuple[int, ...] | None:
        """The cheapest ranks that keep this share of the energy on every side that has one; None where the layer as it is costs no more."""
        least = [
            min(len(own), -(-(int(np.searchsorted(own, energy * (1 - 1e-12))) + 1) // round_to) * round_to)
            for own in self.energies
        ]
        if len(least) == 1:
            forms: list[tuple[int, ...]] = [(least[0],)]
        else:
            forms = [(least[0], least[1]), (least[0], 0), (0, least[1])]
        best = min(forms, key=lambda ranks: self.cost(ranks, measure))
        return best if self.cost(best, measure) < self.cost(None, measure) else None


def spectrum_of(name: str, layer: nn.Module, *, made: int, read: int) -> Spectrum:
    """The spectrum of a linear layer or a convolution without groups."""
    weight: torch.Tensor = layer.weight.detach().double()  # type: ignore[operator]
    sides = [weight.flatten(1)] if taps_of(layer) == 1 else [weight.transpose(0, 1).flatten(1), weight.flatten(1)]
    return Spectrum(
        name=name,
        outward=weight.shape[0],
        inward=weight.shape[1],
        taps=taps_of(layer),
        made=made,
        read=read,
        energies=tuple(_shares(side) for side in sides),
    )


def energy_within(spectra: Sequence[Spectrum], at_most: float, measure: Measure, *, round_to: int = 1) -> float | None:
    """The largest energy that, kept by every layer alike, costs no more than `at_most` in all; None where no rank is low enough."""

    def cost(energy: float) -> int:
        return sum(one.cost(one.ranks_for(energy, measure, round_to=round_to), measure) for one in spectra)

    if cost(0.0) > at_most:
        return None
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= at_most else (low, middle)
    return low


def positions_of(network: nn.Module, example: tuple[torch.Tensor, ...]) -> Mapping[str, tuple[int, int]]:
    """How often each layer's weight is used in one inference, and how often a 1×1 convolution before it would be, by the layer's name; layers that
    `forward` doesn't call are missing. `example` is a batch of one."""
    found: dict[str, tuple[int, int]] = {}

    def count(name: str, axis: int) -> object:
        def hook(_layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            made, read = found.get(name, (0, 0))
            made, read = made + output.numel() // output.shape[axis], read + inputs[0].numel() // inputs[0].shape[axis]
            found[name] = made, read

        return hook

    kinds = {name: kind for name, layer in network.named_modules() if (kind := kind_of(layer)) is not None}
    handles = [
        network.get_submodule(name).register_forward_hook(count(name, -1 if kind is nn.Linear else 1))  # type: ignore[arg-type]
        for name, kind in kinds.items()
    ]
    try:
        with torch.no_grad():
            network.eval()(*example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _shares(side: torch.Tensor) -> NDArray[np.float64]:
    energies: NDArray[np.float64] = torch.linalg.svdvals(side).numpy() ** 2
    whole = float(energies.sum())
    return np.cumsum(energies) / whole if whole > 0 else np.ones(len(energies))
