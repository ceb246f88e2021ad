"""Weights of few bits that are finest where a layer's inputs are large: input channels are multiplied before they are rounded, and what comes before is divided.

AWQ, Lin et al. 2023 (MLSys 2024, arXiv:2306.00978): s = (mean magnitude of the input channel)^α, with α of a layer from 21 values in 0…1, the one with which the rounded layer's outputs err least on the
calibration samples. Here s is always taken into parameters that exist (`network.rescaling`), so the network has no operation more; the paper multiplies activations where it can't.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from edgepack.core.errors import DataError
from edgepack.network.channels.lockstep import Batch
from edgepack.network.rescaling import Rescaling, linear_layers, obstacles_of, rescale, rescalings
from edgepack.network.weight_grids import WeightGrid

_EXPONENTS = tuple(step / 20 for step in range(21))
_LEAST = 1e-4  # of the largest magnitude: channels that are always 0 would have no scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """What was done, by the weights' names: the exponents α of layers whose inputs have a scale now, what is left of plain rounding's squared error in their outputs (0…1, of all that share one scale together), and
    why the other linear layers have none."""

    exponents: Mapping[str, float]
    shares: Mapping[str, float]
    left: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Reader:
    """A layer that is to be rounded: its weight, float64 (outputs, inputs), X Xᵀ of its inputs, and a grid of the kind that its weight will get."""

    weight: torch.Tensor
    gram: torch.Tensor
    grid: WeightGrid


def scale_inputs(
    network: nn.Module, graph: fx.GraphModule, grids: Mapping[str, WeightGrid], samples: Iterable[Batch]
) -> Scaled:
    """Gives linear layers' input channels scales, in the network's own parameters: its function stays, but for float rounding.

    `graph` is the network's own (`tracing.graph_of`), for batches as `samples` has them; `grids` are of the kind that its weights will get, by their names. Layers that read the same tensor have one scale, which is the best for the sum of their
    errors. In memory are inputs × inputs float64 values for each tensor that such layers read. Raises DataError for inputs that are not finite.
    """
    found = [one for one in rescalings(graph) if not grids.keys().isdisjoint(one.layers)]
    reached = {name for one in found for name in one.layers}
    left = obstacles_of(graph, sorted((grids.keys() & linear_layers(graph)) - reached))
    moments = _moments(graph, found, samples)
    exponents, shares = dict[str, float](), dict[str, float]()
    for one in found:
        readers = {
            name: _Reader(network.get_parameter(name).detach().double(), moments[node.args[0]].gram, grids[name])
            for name, node in zip(one.layers, one.readers, strict=True)
            if name in grids
        }
        magnitude = torch.stack([moments[node.args[0]].magnitude for node in one.readers]).mean(0)
        exponent, scales, share = _best(tuple(readers.values()), magnitude)
        if not exponent:
            left |= dict.fromkeys(readers, "no scale of its inputs errs less")
            continue
        rescale(network, one, scales)
        exponents |= dict.fromkeys(readers, exponent)
        shares |= dict.fromkeys(readers, share)
    return Scaled(exponents=exponents, shares=shares, left=left)


def rounded(weight: torch.Tensor, grid: WeightGrid) -> torch.Tensor:
    """A weight, float64 (outputs, inputs), rounded on a grid of its own that has the bits, zero points and groups of another: NNCF's grid without estimated scales, before these are float16."""
    rows = weight.reshape(*grid.codes.shape[:-1], -1) if grid.codes.ndim == 3 else weight
    levels = 2**grid.bits
    least, most = rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True)
    if grid.zero_point is None:  # the largest magnitude has the code with the largest: the lowest
        scale = torch.where(-least >= most, least.abs(), -most) / (levels / 2)
        scale = torch.where(scale == 0, 1.0, scale)
        codes = (rows / scale).round().clamp(-levels // 2, levels // 2 - 1)
    else:
        least, most = least.clamp_max(0), most.clamp_min(0)
        scale = (most - least) / (levels - 1)
        scale = torch.where(scale == 0, 1.0, scale)
        offset = (-least / scale).round()
        codes = (rows / scale + offset).round().clamp(0, levels - 1) - offset
    return (codes * scale).reshape(weight.shape)


@dataclass(slots=True)
class _Moments:
    """Sums over rows of a tensor: X Xᵀ and |x|, float64, and how many rows there are."""

    gram: torch.Tensor
    total: torch.Tensor
    rows: int

    @property
    def magnitude(self) -> torch.Tensor:
        """The mean of |x| of each channel."""
        return self.total / self.rows


class _Recorder(fx.Interpreter):
    """Runs a graph and sums what some of its nodes give."""

    def __init__(self, graph: fx.GraphModule, nodes: Iterable[Any]) -> None:
        super().__init__(graph)
        self.found = {
            node: _Moments(torch.zeros(width, width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64), 0)
            for node, width in ((node, node.meta["val"].shape[-1]) for node in nodes)
        }

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if (sums := self.found.get(n)) is not None:
            rows = value.reshape(-1, value.shape[-1]).float()
            sums.gram += rows.T @ rows
            sums.total += rows.abs().sum(0)
            sums.rows += len(rows)
        return value


def _moments(graph: fx.GraphModule, found: Sequence[Rescaling], samples: Iterable[Batch]) -> dict[Any, _Moments]:
    """The sums over the inputs of all layers that can have a scale, by the node that gives them. Raises DataError where they aren't finite."""
    recorder = _Recorder(graph, {node.args[0] for one in found for node in one.readers})
    with torch.no_grad():
        for batch in samples if found else ():
            recorder.run(*batch)
    for one in found:
        for name, node in zip(one.layers, one.readers, strict=True):
            if not bool(recorder.found[node.args[0]].gram.isfinite().all()):
                raise DataError(
                    f"compress_weights: awq: the inputs of layer '{name.rpartition('.')[0]}' are not finite for the calibration samples; "
                    "look at the samples of data.calibration, or leave awq out"
                )
    return recorder.found


def _best(readers: Sequence[_Reader], magnitude: torch.Tensor) -> tuple[float, torch.Tensor, float]:
    """The exponent and the scales with which the readers' outputs err least in all, and what is left of the squared error with none."""
    before, best, scales = 0.0, (float("inf"), 0.0), torch.ones_like(magnitude)
    for exponent in _EXPONENTS:
        tried = magnitude.clamp_min(_LEAST * float(magnitude.max().clamp_min(1e-30))) ** exponent
        tried = tried / (tried.max() * tried.min()).sqrt()
        error = sum(_error(reader, tried) for reader in readers)
        before = before if exponent else error
        if error < best[0]:
            best, scales = (error, exponent), tried
    return best[1], scales, best[0] / max(before, 1e-30)


def _error(reader: _Reader, scales: torch.Tensor) -> float:
    """The squared error of a rounded layer's outputs, summed over samples and outputs."""
    change = rounded(reader.weight * scales, reader.grid) / scales - reader.weight
    return float(((change @ reader.gram) * change).sum())
