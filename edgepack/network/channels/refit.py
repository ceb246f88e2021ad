"""What the layers after removed channels make up for at once: their weights, fitted by least squares to the outputs of the network as it was.

After He, Zhang and Sun 2017 (arXiv:1707.06168), but with the inputs that the narrower network really has, so that a layer also makes up for what those before it
miss, and drawn towards the weights that are there: W' = W + (Y - W X) Xᵀ (X Xᵀ + λ I)⁻¹. X are the layer's inputs in the narrower network (a column for each
position of the kernel), Y the outputs of the same layer in the network as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgepack.network.channels.groups import ChannelGroup, Places
from edgepack.network.channels.state import without

_RIDGE = 1e-3  # λ, as a share of the mean of the diagonal of X Xᵀ
_POSITIONS_MAX = 400  # of one image: more hardly change the fit
Batch = tuple[torch.Tensor, ...]


class _Reached(Exception):  # no error: a forward has come as far as it had to
    """Carries a layer's inputs and outputs out of a forward."""


def refit(
    narrower: nn.Module, before: nn.Module, rows: Mapping[str, torch.Tensor], batches: Sequence[Batch]
) -> list[str]:
    """Fit the weights and biases of the layers named in `rows`, in place and in the order of the forward; the names of those that were fitted.

    `before` has the same layers with more channels; `rows[name]` are the outputs of its layer that `narrower` still has, int64 of shape (outputs,). Both are in
    evaluation mode, without hooks. Only linear layers and ungrouped 2-D convolutions are fitted.
    """
    fitted = [name for name in _in_order(narrower, batches[0]) if name in rows]
    for name in fitted:
        _fit(name, narrower, before, rows[name], batches)
    return fitted


def rows_left(before: nn.Module, gone: Iterable[tuple[ChannelGroup, Places]]) -> dict[str, torch.Tensor]:
    """Which outputs of each layer of `before` are left without these channels, by the layer's name: int64 positions."""
    weights = {name: value for name, value in before.state_dict().items() if value.dim() > 1}
    rows = {
        name: torch.arange(len(value)).reshape(-1, *[1] * (value.dim() - 1)).expand(value.shape)
        for name, value in weights.items()
    }
    left = without({**before.state_dict(), **rows}, gone)
    return {name.rpartition(".")[0]: left[name].flatten(1)[:, 0] for name in rows}


def _in_order(network: nn.Module, batch: Batch) -> list[str]:
    """The layers that can be fitted and are called once, in the order of a forward."""
    called: list[str] = []
    handles = [
        layer.register_forward_hook(lambda _layer, _inputs, _output, name=name: called.append(name))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
        or (isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros")
    ]
    try:
        with torch.no_grad():
            network(*(tensor[:1] for tensor in batch))
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in dict.fromkeys(called) if called.count(name) == 1]


@torch.no_grad()
def _fit(name: str, narrower: nn.Module, before: nn.Module, rows: torch.Tensor, batches: Sequence[Batch]) -> None:
    layer: Any = narrower.get_submodule(name)
    weight = layer.weight.flatten(1)
    with_bias = layer.bias is not None
    size = weight.shape[1] + with_bias
    gram, cross = torch.zeros(size, size, dtype=torch.float64), torch.zeros(len(weight), size, dtype=torch.float64)
    for batch in batches:
        inputs, found = _until(narrower, name, batch)
        wanted = _until(before, name, batch)[1].index_select(1 if isinstance(layer, nn.Conv2d) else -1, rows)
        columns, missing = _columns(layer, inputs), _positions(layer, wanted - found)
        if columns.shape[0] > _POSITIONS_MAX * len(batch[0]):
            some = torch.linspace(0, columns.shape[0] - 1, _POSITIONS_MAX * len(batch[0])).long()
            columns, missing = columns[some], missing[some]
        if with_bias:
            columns = functional.pad(columns, (0, 1), value=1.0)
        gram += (columns.T @ columns).double()
        cross += (missing.T @ columns).double()
    gram += _RIDGE * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(size, dtype=torch.float64)
    change = torch.linalg.solve(gram, cross.T).T.float()
    layer.weight += change[:, : weight.shape[1]].reshape(layer.weight.shape)
    if with_bias:
        layer.bias += change[:, -1]


def _until(network: nn.Module, name: str, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs and outputs of a layer; the forward ends there."""

    def hook(_layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        raise _Reached(inputs[0], output)

    handle = network.get_submodule(name).register_forward_hook(hook)
    try:
        network(*batch)
    except _Reached as reached:
        inputs, output = reached.args
        return inputs, output
    finally:
        handle.remove()
    raise AssertionError(f"{name} is not reached")


def _columns(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
    """What a layer's weights are multiplied by: (positions, inputs × kernel)."""
    if isinstance(layer, nn.Linear):
        return inputs.flatten(0, -2)
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding in ((0, 0), 0):
        return inputs.permute(0, 2, 3, 1).flatten(0, 2)
    if isinstance(layer.padding, str):  # 'same' or 'valid'
        inputs = functional.pad(
            inputs, layer._reversed_padding_repeated_twice if layer.padding == "same" else (0, 0, 0, 0)
        )
    padding = (0, 0) if isinstance(layer.padding, str) else layer.padding
    unfolded = functional.unfold(
        inputs, layer.kernel_size, dilation=layer.dilation, padding=padding, stride=layer.stride
    )
    return unfolded.transpose(1, 2).flatten(0, 1)


def _positions(layer: Any, outputs: torch.Tensor) -> torch.Tensor:
    """(positions, outputs), in the order of `_columns`."""
    return outputs.flatten(0, -2) if isinstance(layer, nn.Linear) else outputs.permute(0, 2, 3, 1).flatten(0, 2)
