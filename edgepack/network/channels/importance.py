"""How much a channel matters: by its weights' magnitude, by what the loss would feel, or by its batch norm's scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from edgepack.network.channels.groups import ChannelGroup
from edgepack.network.model import flat_outputs

Importance = Literal["magnitude", "taylor", "bn_scale"]
Values = Mapping[str, torch.Tensor]


def importance_of(
    kind: Importance, group: ChannelGroup, state: Values, gradients: Values
) -> NDArray[np.float64] | None:
    """Of shape (channels,); None where this kind knows nothing of the group. `gradients` are needed by `taylor`, whose values can be compared between groups;
    those of the others can't, so they have mean 1 over the group."""
    found = {"magnitude": _magnitude, "taylor": _taylor, "bn_scale": _bn_scale}[kind](group, state, gradients)
    return found if found is None or kind == "taylor" else found / max(float(found.mean()), 1e-30)


def taylor_gradients(
    network: nn.Module, teacher: nn.Module, batches: Iterable[tuple[torch.Tensor, ...]]
) -> dict[str, torch.Tensor]:
    """weight × gradient of each parameter, squared and summed over batches, by name, to see what the loss would feel without it.

    The loss is cross-entropy with the teacher's first choice: its distance to the teacher's own scores would have no gradient before training begins.
    """
    total = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for inputs in batches:
        network.zero_grad(set_to_none=True)
        with torch.no_grad():
            wanted = flat_outputs(teacher(*inputs))
        loss = torch.stack([_loss(ours, its) for ours, its in zip(flat_outputs(network(*inputs)), wanted, strict=True)])
        torch.autograd.backward(loss.sum())
        for name, value in network.named_parameters():
            if value.grad is not None:
                total[name] += (value.detach() * value.grad) ** 2
    network.zero_grad(set_to_none=True)
    return total


def _loss(ours: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    if ours.dim() == 2 and ours.shape[1] > 1:
        return functional.cross_entropy(ours, wanted.argmax(1))
    return ours.square().mean()


def _magnitude(group: ChannelGroup, state: Values, _gradients: Values) -> NDArray[np.float64] | None:
    """Li et al. 2017 (arXiv:1608.08710), over all layers of the group: the Euclidean norm of a channel's weights in each, added up."""
    return _summed(
        group, {one.tensor: state[one.tensor] ** 2 for one in group.slices if state[one.tensor].dim() > 1}, 0.5
    )


def _taylor(group: ChannelGroup, _state: Values, gradients: Values) -> NDArray[np.float64] | None:
    """Molchanov et al. 2019 (arXiv:1906.10771): the squared change of the loss that removing it would cause, to first order."""
    made = {one.tensor: gradients[one.tensor] for one in group.slices if one.makes and one.tensor in gradients}
    return _summed(group, made, 1.0)


def _bn_scale(group: ChannelGroup, state: Values, _gradients: Values) -> NDArray[np.float64] | None:
    """Liu et al. 2017 (arXiv:1708.06519): what batch norm multiplies a channel by."""
    norms = {one.tensor.rpartition(".")[0] for one in group.slices if one.tensor.endswith(".running_var")}
    scales = {f"{name}.weight": state[f"{name}.weight"].abs() for name in norms if f"{name}.weight" in state}
    return _summed(group, scales, 1.0)


def _summed(group: ChannelGroup, values: Values, power: float) -> NDArray[np.float64] | None:
    """Each channel's sum in each tensor, to a power, added up over the tensors."""
    total = np.zeros(group.channels)
    found = False
    for one in group.slices:
        if one.tensor in values:
            along = values[one.tensor].movedim(one.axis, 0).unsqueeze(-1).flatten(1).double().sum(dim=1).numpy()
            total[one.channels] += along[one.places].sum(axis=1) ** power
            found = True
    return total if found else None
