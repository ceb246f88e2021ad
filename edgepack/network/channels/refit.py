"""What the layers after removed channels make up for at once: their weights, fitted by least squares to the outputs of the network as it was.

After He, Zhang and Sun 2017 (arXiv:1707.06168), but with the inputs that the narrower network really has, so that a layer also makes up for what those before it
miss, and drawn towards the weights that are there: W' = W + (Y - W X) Xᵀ (X Xᵀ + λ I)⁻¹. X are the layer's inputs in the narrower network (a column for each
position of the kernel), Y the outputs of the same layer in the network as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgepack.network.channels.groups import ChannelGroup, Places
from edgepack.network.channels.lockstep import Batch, Forward, stopping
from edgepack.network.channels.state import without

_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # λ, as a share of the mean of the diagonal of X Xᵀ
_JUDGES_EVERY = 4  # one in so many samples says which λ is best, or that the weights had better stay
_POSITIONS = 128  # of one sample: more hardly change the fit
_COLUMNS_MAX = 5_000  # of X: with 4,608, a 3 × 3 kernel over 512 channels, a fit takes 0.8 GB and a minute; VGG-16's first linear layer has 25,088


def refit(
    narrower: nn.Module, before: nn.Module, rows: Mapping[str, torch.Tensor], samples: Sequence[Batch]
) -> list[str]:
    """Fit the weights and biases of the layers named in `rows`, in place and in the order of the forward; the names of those that were fitted.

    `before` has the same layers with more channels; `rows[name]` are the outputs of its layer that `narrower` still has, int64 of shape (outputs,). Both are in
    evaluation mode, without hooks. `samples` are batches of inputs; in memory at once is what is alive of them at one layer, in both networks. Only linear layers and
    ungrouped 2-D convolutions of up to 5,000 inputs (channels × kernel) that a forward calls once are fitted, and only where the fit holds for samples that it wasn't made from.
    """
    names = [name for name in _called_once(narrower, samples[0]) if name in rows]
    fitted: list[str] = []
    forwards = [(Forward(narrower, batch), Forward(before, batch)) for batch in samples]
    with torch.no_grad(), stopping(narrower, names, gives="inputs"), stopping(before, names, gives="outputs"):
        try:
            for name in names:
                if _fit(narrower.get_submodule(name), name, rows[name], forwards):
                    fitted.append(name)
        except _OtherPath:
            return fitted  # a forward that goes elsewhere with other samples: what was fitted is judged like any fit
        finally:
            for pair in forwards:
                for forward in pair:
                    forward.end()
    return fitted


class _OtherPath(Exception):
    """A forward didn't come to the layer that the first sample's came to."""


def rows_left(before: nn.Module, gone: Iterable[tuple[ChannelGroup, Places]]) -> dict[str, torch.Tensor]:
    """Which outputs of each layer of `before` are left without these channels, by the layer's name: int64 positions."""
    weights = {name: value for name, value in before.state_dict().items() if value.dim() > 1}
    rows = {
        name: torch.arange(len(value)).reshape(-1, *[1] * (value.dim() - 1)).expand(value.shape)
        for name, value in weights.items()
    }
    left = without({**before.state_dict(), **rows}, gone)
    return {name.rpartition(".")[0]: left[name].flatten(1)[:, 0] for name in rows}


def _called_once(network: nn.Module, samples: Batch) -> list[str]:
    """The layers that can be fitted, in the order of a forward."""
    called: list[str] = []

    def note(name: str) -> Any:
        def called_with(_layer: nn.Module, inputs: Batch, _output: torch.Tensor) -> None:
            # Where these modes are on, they are all that runs in the thread: no place to stop. Inputs that have names are none of these.
            if inputs and not torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu"):
                called.append(name)

        return called_with

    hooks = [
        layer.register_forward_hook(note(name))
        for name, layer in network.named_modules()
        if (
            isinstance(layer, nn.Linear)
            or (isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros")
        )
        and layer.weight[0].numel() < _COLUMNS_MAX
    ]
    try:
        with torch.no_grad():
            network(*(tensor[:1] for tensor in samples))
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name in dict.fromkeys(called) if called.count(name) == 1]


def _is_understood(layer: Any, inputs: torch.Tensor) -> bool:
    """Whether the layer computes its weights' product with `_columns`: subclasses may pad in ways of their own, for one."""
    outputs, columns = _positions(layer, layer.forward(inputs)), _columns(layer, inputs)
    if outputs.shape[:2] != columns.shape[:2]:
        return False
    found = columns @ layer.weight.flatten(1).T + (0 if layer.bias is None else layer.bias)
    return bool((found - outputs).abs().max() <= 1e-3 * outputs.abs().max())


def _fit(layer: Any, name: str, rows: torch.Tensor, forwards: Sequence[tuple[Forward, Forward]]) -> bool:
    """Whether the weights were changed. `forwards` are of the narrower network and of the one before, a pair for each batch, all on their way to this layer."""
    weight, with_bias = layer.weight.flatten(1), layer.bias is not None
    weight = torch.cat([weight, layer.bias[:, None]], 1) if with_bias else weight
    fitted, judging = _Sums.empty(*weight.shape), _Sums.empty(*weight.shape)
    understood = True
    for ours, theirs in forwards:
        inputs, outputs = ours.at(name), theirs.at(name)
        if inputs is None or outputs is None:
            raise _OtherPath
        understood = understood and _is_understood(layer, inputs[:1])
        if not understood:
            continue
        columns = _thinned(_columns(layer, inputs))
        columns = functional.pad(columns, (0, 1), value=1.0) if with_bias else columns
        wanted = _thinned(_positions(layer, outputs.index_select(1 if isinstance(layer, nn.Conv2d) else -1, rows)))
        missing = wanted - columns @ weight.T
        judges = torch.arange(len(columns)) % _JUDGES_EVERY == _JUDGES_EVERY - 1
        fitted.add(columns[~judges], missing[~judges])
        judging.add(columns[judges], missing[judges])
    return understood and _changed(layer, fitted, judging)


def _changed(layer: Any, fitted: _Sums, judging: _Sums) -> bool:
    """Whether the layer has other weights now: those of the best λ, where they come nearer for the samples that judge."""
    left, best = 0.0, None
    for ridge in _RIDGES:
        found = fitted.change(ridge)
        if (left_by := judging.left_by(found)) < left:
            left, best = left_by, found
    if best is None:
        return False  # what was fitted doesn't hold for other samples
    # Without the judges: later layers must find them as they find any other sample.
    change = best.float()
    inputs = layer.weight.flatten(1).shape[1]
    layer.weight += change[:, :inputs].reshape(layer.weight.shape)
    if layer.bias is not None:
        layer.bias += change[:, -1]
    return True


@dataclass(slots=True)
class _Sums:
    """X Xᵀ and (Y - W X) Xᵀ over some samples, in float64."""

    gram: torch.Tensor
    cross: torch.Tensor

    @classmethod
    def empty(cls, outputs: int, inputs: int) -> _Sums:
        return cls(torch.zeros(inputs, inputs, dtype=torch.float64), torch.zeros(outputs, inputs, dtype=torch.float64))

    def add(self, columns: torch.Tensor, missing: torch.Tensor) -> None:
        x, y = columns.flatten(0, 1), missing.flatten(0, 1)
        self.gram += (x.T @ x).double()
        self.cross += (y.T @ x).double()

    def change(self, ridge: float) -> torch.Tensor:
        """W' - W with this λ."""
        weighted = ridge * self.gram.diagonal().mean().clamp_min(1e-12)
        matrix = self.gram.clone()
        matrix.diagonal().add_(weighted)
        found: torch.Tensor = torch.linalg.solve(matrix, self.cross.T)
        return found.T

    def left_by(self, change: torch.Tensor) -> float:
        """The squared error that is left by a change of the weights, less that without it."""
        return float(((change @ self.gram) * change).sum() - 2 * (change * self.cross).sum())


def _thinned(values: torch.Tensor) -> torch.Tensor:
    """Some of each sample's positions, evenly: values of shape (samples, positions, …)."""
    if values.shape[1] <= _POSITIONS:
        return values
    return values[:, torch.linspace(0, values.shape[1] - 1, _POSITIONS).long()]


def _columns(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
    """What a layer's weights are multiplied by: (samples, positions, inputs × kernel)."""
    if isinstance(layer, nn.Linear):
        return _positions(layer, inputs)
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding in ((0, 0), "valid", "same"):
        return inputs.flatten(2).transpose(1, 2)
    padding = layer.padding
    if isinstance(padding, str):
        sides = layer._reversed_padding_repeated_twice if padding == "same" else (0, 0, 0, 0)
        inputs, padding = functional.pad(inputs, sides), (0, 0)
    unfolded = functional.unfold(
        inputs, layer.kernel_size, dilation=layer.dilation, padding=padding, stride=layer.stride
    )
    return unfolded.transpose(1, 2)


def _positions(layer: Any, outputs: torch.Tensor) -> torch.Tensor:
    """(samples, positions, outputs), in the order of `_columns`."""
    if isinstance(layer, nn.Linear):
        return outputs.reshape(len(outputs), -1, outputs.shape[-1])
    return outputs.flatten(2).transpose(1, 2)
