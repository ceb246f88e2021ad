"""Other codes on the grid of compressed weights: in each linear layer, the weights that are rounded later make up for the error of the earlier ones.

GPTQ, Frantar et al. 2023 (arXiv:2210.17323), by `network.second_order`. Each layer is fitted to the inputs that the rounded layers before it give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from edgepack.core.errors import DataError
from edgepack.core.types import Array
from edgepack.network.channels.lockstep import Batch, Forward, stopping
from edgepack.network.second_order import codes_by_second_moments
from edgepack.network.weight_grids import WeightGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensated:
    """The grids with other codes, and `shares`: what is left of plain rounding's squared error in a layer's outputs on these samples, 0…1, by the weight's name."""

    grids: Mapping[str, WeightGrid]
    shares: Mapping[str, float]


def compensate(network: nn.Module, grids: Mapping[str, WeightGrid], batches: Sequence[Batch]) -> Compensated:
    """New codes for the linear layers among the grids' weights, each fitted to the inputs that the rounded layers before it give.

    `network` is a float one in evaluation mode, with the weights that the grids were made for; it is left with the new values. A layer that a forward calls once, and that has its weight for itself, gets
    codes; the others keep those of their grids. In memory at once is what is alive at one layer, of all batches. Raises DataError for inputs that are not finite.
    """
    layers = _layers(network, grids, batches[0])
    found, shares = dict(grids), {}
    with torch.no_grad():
        for name in grids.keys() - {f"{layer}.weight" for layer in layers}:
            _put(network, name, grids[name])
    forwards = [Forward(network, batch) for batch in batches]
    with torch.no_grad(), stopping(network, layers, gives="inputs"):
        try:
            for layer in layers:
                name = f"{layer}.weight"
                gram = _gram(layer, forwards)
                if gram is not None:
                    weight = network.get_parameter(name).detach().double()
                    found[name], shares[name] = _better(weight, gram, grids[name])
                _put(network, name, found[name])
        finally:
            for forward in forwards:
                forward.end()
    return Compensated(grids=found, shares=shares)


def codes_of(weight: torch.Tensor, gram: torch.Tensor, grid: WeightGrid) -> torch.Tensor:
    """Codes of a weight on a grid, float64 of shape (outputs, inputs).

    `weight` is float64 of that shape, `gram` is X Xᵀ of its inputs, float64 (inputs, inputs).
    """
    half = 2 ** (grid.bits - 1)
    lowest = -half if grid.zero_point is None else 0
    return codes_by_second_moments(
        weight, *_by_weight(grid), gram, lowest_code=lowest, largest_code=lowest + 2 * half - 1
    )


def _by_weight(grid: WeightGrid) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero point of each weight, float64 of shape (outputs, inputs)."""

    def spread(values: Array) -> torch.Tensor:
        return torch.from_numpy(values.astype("float64")).expand(grid.codes.shape).reshape(grid.shape)

    scale = spread(grid.scale)
    offset = torch.zeros_like(scale) if grid.zero_point is None else spread(grid.zero_point)
    return torch.where(scale == 0, 1.0, scale), offset


def _better(weight: torch.Tensor, gram: torch.Tensor, grid: WeightGrid) -> tuple[WeightGrid, float]:
    """The grid with the codes, row by row, that err less: the new ones, or its own; and what that leaves of its own's squared error."""
    scale, offset = _by_weight(grid)

    def errors(codes: torch.Tensor) -> torch.Tensor:
        change = (codes - offset) * scale - weight
        return ((change @ gram) * change).sum(1)

    plain = torch.from_numpy(grid.codes.astype("float64")).reshape(grid.shape)
    made = codes_of(weight, gram, grid)
    before, after = errors(plain), errors(made)
    codes = torch.where((after < before)[:, None], made, plain)
    share = float(torch.minimum(before, after).sum() / before.sum().clamp_min(1e-30))
    return replace(grid, codes=codes.reshape(grid.codes.shape).numpy().astype(grid.codes.dtype)), share


@torch.no_grad()  # a forward that is stopped may have turned gradients on
def _gram(layer: str, forwards: Sequence[Forward]) -> torch.Tensor | None:
    """X Xᵀ of the layer's inputs over all forwards; None where one of them goes another way. Raises DataError where it isn't finite."""
    gram: torch.Tensor | None = None
    for forward in forwards:
        inputs = forward.at(layer)
        if inputs is None:
            return None
        columns = inputs.reshape(-1, inputs.shape[-1]).float()
        squares = (columns.T @ columns).double()
        gram = squares if gram is None else gram + squares
    if gram is not None and not bool(gram.isfinite().all()):
        raise DataError(
            f"compress_weights: gptq: the inputs of layer '{layer}' are not finite for the calibration samples; "
            "look at the samples of data.calibration, or leave gptq out"
        )
    return gram


def _layers(network: nn.Module, grids: Mapping[str, WeightGrid], batch: Batch) -> list[str]:
    """The linear layers that can get codes, in the order of a forward."""
    called: list[str] = []
    owners = [id(value) for _, value in network.named_parameters(remove_duplicate=False)]
    hooks = [
        layer.register_forward_hook(lambda _layer, inputs, _output, name=name: called.append(name if inputs else ""))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward
    ]
    try:
        with torch.no_grad():
            network(*(tensor[:1] for tensor in batch))
    finally:
        for hook in hooks:
            hook.remove()
    return [
        name
        for name in dict.fromkeys(called)
        if called.count(name) == 1
        and f"{name}.weight" in grids
        and owners.count(id(network.get_parameter(f"{name}.weight"))) == 1
    ]


def _put(network: nn.Module, name: str, grid: WeightGrid) -> None:
    with torch.no_grad():
        network.get_parameter(name).copy_(torch.from_numpy(grid.values()))
