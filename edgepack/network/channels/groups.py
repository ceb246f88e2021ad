"""Which channels of a network hang together: found by torch-pruning's dependency graph, told as slices of tensors.

torch-pruning (Fang et al. 2023, arXiv:2301.12900) follows autograd's graph of one forward: a channel of a convolution is a slice of its weight, of the
batch norm after it, of whatever a residual sum ties to it, and of every layer that reads it.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgepack.core.errors import RecipeError, did_you_mean

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Where a group's channels lie in one tensor of the state dict: row i of `places`, of shape (channels, places a channel), are those of
    `channels[i]` along `axis`. `makes` says whether the tensor makes the channel; else it reads it."""

    tensor: str
    axis: int
    channels: Places
    places: Places
    makes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Channels 0 … `channels` - 1 that move together, named by the first layer that makes them.

    `layers` are all that make or read them, `makers` those that make them. `obstacle` says why they must stay as they are; '' where nothing is known that speaks against it.
    """

    name: str
    channels: int
    layers: tuple[str, ...]
    makers: tuple[str, ...]
    slices: tuple[Slice, ...]
    obstacle: str

    @property
    def classes(self) -> tuple[Places, ...]:
        """Channels that may take each other's places: those with a slice in the same tensors. (A concatenation joins several classes in one group.)"""
        members: dict[tuple[int, ...], list[int]] = defaultdict(list)
        known = [set(one.channels.tolist()) for one in self.slices]
        for channel in range(self.channels):
            members[tuple(i for i, found in enumerate(known) if channel in found)].append(channel)
        return tuple(np.array(found, np.intp) for found in members.values())


def channel_groups(network: nn.Module, example: tuple[torch.Tensor, ...]) -> tuple[ChannelGroup, ...]:
    """Every group of channels that some convolution or linear layer makes, in the order of the forward's end to its beginning.

    `network` has no hooks; its values stay as they are. Empty where torch-pruning can't follow the forward.
    """
    import torch_pruning as pruning

    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    graph = pruning.DependencyGraph()
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # what it can't tell is left alone here, and named
        try:
            graph.build_dependency(network, example, verbose=False)
            found = list(graph.get_all_groups(root_module_types=(nn.modules.conv._ConvNd, nn.Linear)))
        except Exception:  # noqa: BLE001  # a third party's tracer: whatever it stumbles on, no channels are known
            return ()
    names = {module: name for name, module in network.named_modules()}
    return tuple(_group(one, names, graph) for one in found)


def named_layers(network: nn.Module, names: Iterable[str], *, where: str) -> None:
    """Raises RecipeError for a name that no layer with weights has."""
    layers = [name for name, module in network.named_modules() if name and any(True for _ in module.parameters())]
    for name in names:
        if name not in layers:
            raise RecipeError(f"{where}: the model has no layer '{name}'{did_you_mean(name, layers)}")


def _group(found: Any, names: dict[Any, str], graph: Any) -> ChannelGroup:
    root = found[0].dep.target.module
    slices: dict[tuple[str, int], Slice] = {}
    layers: list[str] = []
    makers: list[str] = []
    obstacles: list[str] = []
    for item in found:
        node, module = item.dep.target, item.dep.target.module
        makes = graph.is_out_channel_pruning_fn(item.dep.handler)
        if isinstance(module, nn.Module) and module in names:
            layers.append(names[module])
            makers += [names[module]] if makes else []
            if makes and not node.outputs:
                obstacles.append(f"{names[module]} makes an output of the model")
        elif node.type == graph.ops.OPTYPE.OUTPUT:
            obstacles.append("it is an output of the model")
        tensors, obstacle = _tensors_of(module, names, graph, makes=makes)
        obstacles += [obstacle] if obstacle else []
        placed = None if not tensors else _places(item.idxs, item.root_idxs)
        if tensors and placed is None:
            obstacles.append(f"{names[module]} holds its channels in unequal shares")
        for tensor, axis in tensors if placed is not None else ():
            assert placed is not None
            slices[tensor, axis] = Slice(tensor=tensor, axis=axis, channels=placed[0], places=placed[1], makes=makes)
    return ChannelGroup(
        name=names[root],
        channels=len(found[0].idxs),
        layers=tuple(dict.fromkeys(layers)),
        makers=tuple(dict.fromkeys(makers)),
        slices=tuple(slices.values()),
        obstacle=obstacles[0] if obstacles else "",
    )


def _places(positions: Iterable[int], channels: Iterable[int]) -> tuple[Places, Places] | None:
    """The channels in rising order and their positions, one row each; None where one has more of them than another."""
    members: dict[int, list[int]] = defaultdict(list)
    for position, channel in zip(positions, channels, strict=True):
        members[channel].append(position)
    if len({len(found) for found in members.values()}) != 1:
        return None
    order = sorted(members)
    return np.array(order, np.intp), np.array([members[channel] for channel in order], np.intp)


def _tensors_of(
    module: Any, names: dict[Any, str], graph: Any, *, makes: bool
) -> tuple[tuple[tuple[str, int], ...], str]:
    """The tensors, with axes, in which a layer holds the channels that it makes or reads; or why it can't be told."""
    if isinstance(module, nn.Parameter):
        return (), "a parameter outside any layer takes part"
    if not isinstance(module, nn.Module) or module not in names:
        return (), ""  # an operation without weights
    name = names[module]
    for kinds, tensors in _KINDS:
        if isinstance(module, kinds):
            places = tensors(module, makes)
            if places is None:
                return (), f"{name} divides its channels in groups"
            state = module.state_dict()
            return tuple((f"{name}.{key}" if name else key, axis) for key, axis in places if key in state), ""
    if graph.get_pruner_of_module(module) is not None:
        return (), f"{name} is a {type(module).__name__}"
    return (), ""


def _of_convolution(module: Any, makes: bool) -> tuple[tuple[str, int], ...] | None:
    if (
        module.groups == module.in_channels == module.out_channels and module.groups > 1
    ):  # depthwise: one channel in, one out
        return ("weight", 0), ("bias", 0)
    if module.groups != 1:
        return None
    out_axis = 1 if module.transposed else 0
    return (("weight", out_axis), ("bias", 0)) if makes else (("weight", 1 - out_axis),)


def _of_linear(_module: Any, makes: bool) -> tuple[tuple[str, int], ...]:
    return (("weight", 0), ("bias", 0)) if makes else (("weight", 1),)


def _of_norm(_module: Any, _makes: bool) -> tuple[tuple[str, int], ...]:
    return tuple((key, 0) for key in ("weight", "bias", "running_mean", "running_var"))


def _of_slopes(module: Any, _makes: bool) -> tuple[tuple[str, int], ...]:
    return () if module.num_parameters == 1 else (("weight", 0),)


_KINDS: tuple[tuple[Any, Callable[[Any, bool], tuple[tuple[str, int], ...] | None]], ...] = (
    (nn.modules.conv._ConvNd, _of_convolution),
    (nn.Linear, _of_linear),
    (nn.modules.batchnorm._BatchNorm, _of_norm),
    (nn.PReLU, _of_slopes),
)
