"""The compressed network's values in the shapes of the original: what was sorted put back, what was removed as zeros, products multiplied out.

Then both are points of one space, and what a layer's change does to the outputs can be asked, whatever made the change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from edgepack.network.channels.groups import channel_groups
from edgepack.network.channels.narrowing import alike
from edgepack.network.channels.state import moved
from edgepack.network.grid import trace
from edgepack.network.model import Model, flat_outputs
from edgepack.network.sensitivity import plain_network

State = dict[str, torch.Tensor]
_OTHER = (
    "the compressed network can't be laid beside the original: it has other layers, or lost channels in several steps"
)


def in_original_form(original: Model, compressed: Model, inputs: tuple[torch.Tensor, ...]) -> tuple[State, str | None]:
    """The state, or the reason why there is none. It is checked on `inputs`: the original's network computes with it what the compressed one does in float."""
    plain = plain_network(compressed)
    state: State = {name: value.clone() for name, value in plain.state_dict().items()}
    own = original.network.state_dict()
    for edit in reversed(compressed.edits):
        if edit["kind"] == "sort":
            state = _unsorted(state, compressed, edit["channels"])
    for name in compressed.factors:
        state = _multiplied_out(state, name, own)
    for edit in compressed.edits:
        if edit["kind"] == "prune" and any(state[name].shape != own[name].shape for name in own if name in state):
            state = _with_zeros(state, original, edit["channels"])
    if state.keys() != own.keys() or any(state[name].shape != own[name].shape for name in own):
        return {}, _OTHER
    network = original.build().eval()
    network.load_state_dict(state)
    with torch.no_grad():
        same = alike(flat_outputs(network(*inputs)), flat_outputs(plain.eval()(*inputs)))
    return (state, None) if same else ({}, _OTHER)


def layer_tensors(model: Model) -> dict[str, tuple[str, ...]]:
    """By weight name the tensors of its layer: the weight, its bias, and those of a batch norm that alone reads the layer's output."""
    ops = trace(model.build().eval(), model.example())
    parts: dict[str, tuple[str, ...]] = {}
    for op in ops.values():
        if op.weight is None:
            continue
        owners = [op.weight.rpartition(".")[0]]
        if len(op.consumers) == 1 and (norm := ops.get(op.consumers[0])) is not None and norm.kind == "batch_norm":
            owners.append(".".join(norm.name.split("/")[:-2]))
        mine = [name for name in model.network.state_dict() if name.rpartition(".")[0] in owners]
        parts.setdefault(op.weight, tuple(mine))
    return parts


def _unsorted(state: State, compressed: Model, orders: Mapping[str, Sequence[int]]) -> State:
    for group in channel_groups(compressed.build().eval(), compressed.example()):
        order = np.array(orders.get(group.name, ()), np.intp)
        if len(order) == group.channels:
            state = moved(state, group, np.argsort(order))
    return state


def _multiplied_out(state: State, name: str, own: Mapping[str, torch.Tensor]) -> State:
    """The factors of a layer as its one weight: the last factor's bias is the layer's own."""
    parts = sorted(key for key in state if key.startswith(f"{name}.") and key.endswith(".weight"))
    biases = [key for key in state if key.startswith(f"{name}.") and key.endswith(".bias")]
    product = state[parts[0]].flatten(2) if state[parts[0]].dim() > 2 else state[parts[0]][..., None]
    for part in parts[1:]:
        taps = state[part].reshape(*state[part].shape[:2], -1)
        product = torch.einsum("ojs,jit->oist", taps, product).flatten(2)
    rest = {key: value for key, value in state.items() if key not in (*parts, *biases)}
    shape = (*product.shape[:2], *own[f"{name}.weight"].shape[2:])
    return {**rest, f"{name}.weight": product.reshape(shape), **{f"{name}.bias": state[key] for key in biases}}


def _with_zeros(state: State, original: Model, kept: Mapping[str, Sequence[int]]) -> State:
    """Channels that are gone as zeros: nobody's weights read them. Their variance in a batch norm is the original's, which isn't 0."""
    own = original.network.state_dict()
    gone: dict[tuple[str, int], list[Any]] = {}
    for group in channel_groups(original.build().eval(), original.example()):
        if group.name in kept:
            removed = np.setdiff1d(np.arange(group.channels), np.array(kept[group.name], np.intp))
            for one in group.slices:
                places = one.places[np.isin(one.channels, removed)].reshape(-1)
                gone.setdefault((one.tensor, one.axis), []).append(places)
    found: State = {}
    for name, value in state.items():
        if name not in own or value.shape == own[name].shape:
            found[name] = value
            continue
        stay = [
            np.setdiff1d(np.arange(size), np.concatenate(gone.get((name, axis), [np.zeros(0, np.intp)])))
            for axis, size in enumerate(own[name].shape)
        ]
        if tuple(map(len, stay)) != tuple(value.shape):
            found[name] = value  # another step changed it, too
            continue
        whole = own[name].clone() if name.endswith("running_var") else torch.zeros_like(own[name])
        whole[np.ix_(*stay)] = value
        found[name] = whole
    return found


def explicit_norms(network: nn.Module) -> None:
    """Let batch norms compute with plain arithmetic, through which gradients of their statistics pass, too."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.forward = _Norm(module)  # type: ignore[method-assign, assignment]


class _Norm:
    def __init__(self, norm: Any) -> None:
        self.norm = norm

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        norm = self.norm
        shape = (1, -1, *(1,) * (x.dim() - 2))
        factor = (norm.running_var + norm.eps).rsqrt()
        shift = -norm.running_mean * factor
        if norm.weight is not None:
            factor, shift = factor * norm.weight, shift * norm.weight + norm.bias
        result: torch.Tensor = x * factor.reshape(shape) + shift.reshape(shape)
        return result
