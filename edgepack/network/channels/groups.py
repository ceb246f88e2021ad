"""Which channels of a network hang together: found by torch-pruning's dependency graph, told as slices of tensors.

torch-pruning (Fang et al. 2023, arXiv:2301.12900) follows autograd's graph of one forward: a channel of a convolution is a slice of its weight, of the
batch norm after it, of whatever a residual sum ties to it, and of every layer that reads it.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.network.channels.ties import Part, Tied, has_own_groups, is_one_to_one, tied

Places = NDArray[np.intp]
# With one channel a group, or one group, a convolution would be of another kind, whose channels hang together in other ways.
_LEAST_TIED = 2


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
    `least` of each class must stay. A channel has several places in a layer where grouped convolutions tie them together (`ties.py`).
    """

    name: str
    channels: int
    layers: tuple[str, ...]
    makers: tuple[str, ...]
    slices: tuple[Slice, ...]
    obstacle: str
    least: int = 1

    @property
    def tied(self) -> int:
        """How many channels of a layer each channel stands for: a number that divides those of every layer that makes them."""
        return math.gcd(*(one.places.shape[1] for one in self.slices if one.makes)) or 1

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
    groups = [_read(one, names, graph) for one in found]
    return tuple(_group(groups, ties) for ties in tied([(one.channels, one.parts) for one in groups]))


def named_layers(network: nn.Module, names: Iterable[str], *, where: str) -> None:
    """Raises RecipeError for a name that no layer with weights has."""
    layers = [name for name, module in network.named_modules() if name and any(True for _ in module.parameters())]
    for name in names:
        if name not in layers:
            raise RecipeError(f"{where}: the model has no layer '{name}'{did_you_mean(name, layers)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One of torch-pruning's groups, before grouped convolutions tie it to others."""

    name: str
    channels: int
    layers: tuple[str, ...]
    parts: tuple[Part, ...]
    tensors: tuple[tuple[tuple[str, int], ...], ...]  # of each part, with axes
    obstacles: tuple[str, ...]


def _read(found: Any, names: dict[Any, str], graph: Any) -> _Found:
    layers: list[str] = []
    parts: list[Part] = []
    held: list[tuple[tuple[str, int], ...]] = []
    obstacles: list[str] = []
    for item in found:
        node, module = item.dep.target, item.dep.target.module
        makes = graph.is_out_channel_pruning_fn(item.dep.handler)
        if isinstance(module, nn.Module) and module in names:
            layers.append(names[module])
            channels, positions = tuple(item.root_idxs), tuple(item.idxs)
            parts.append(Part(layer=names[module], module=module, makes=makes, channels=channels, positions=positions))
            if makes and not node.outputs:
                obstacles.append(f"{names[module]} makes an output of the model")
        elif node.type == graph.ops.OPTYPE.OUTPUT:
            obstacles.append("it is an output of the model")
        tensors, obstacle = _tensors_of(module, names, graph, makes=makes)
        held += [tensors] if isinstance(module, nn.Module) and module in names else []
        obstacles += [obstacle] if obstacle else []
    return _Found(
        name=names[found[0].dep.target.module],
        channels=len(found[0].idxs),
        layers=tuple(layers),
        parts=tuple(parts),
        tensors=tuple(held),
        obstacles=tuple(obstacles),
    )


def _group(all_found: Sequence[_Found], ties: Tied) -> ChannelGroup:
    found = [all_found[member] for member in ties.members]
    slices, unequal = _slices(all_found, ties)
    obstacles = [*(obstacle for one in found for obstacle in one.obstacles), ties.obstacle, unequal]
    return ChannelGroup(
        name=found[0].name,
        channels=ties.count,
        layers=tuple(dict.fromkeys(layer for one in found for layer in one.layers)),
        makers=tuple(dict.fromkeys(part.layer for one in found for part in one.parts if part.makes)),
        slices=slices,
        obstacle=next((obstacle for obstacle in obstacles if obstacle), ""),
        least=_LEAST_TIED if ties.layers else 1,
    )


def _slices(all_found: Sequence[_Found], ties: Tied) -> tuple[tuple[Slice, ...], str]:
    """The slices, and why there are no others."""
    held: dict[tuple[str, int], set[tuple[int, int]]] = defaultdict(set)
    owners: dict[tuple[str, int], Part] = {}
    for member in ties.members:
        numbers = ties.numbers[member].tolist()
        for part, tensors in zip(all_found[member].parts, all_found[member].tensors, strict=True):
            for tensor, axis in tensors:
                # What a group of a convolution reads stands along one axis for all its groups.
                size = part.module.weight.shape[1] if axis == 1 and getattr(part.module, "groups", 1) > 1 else None
                owners[tensor, axis] = part
                held[tensor, axis].update(
                    (numbers[channel], position if size is None else position % size)
                    for channel, position in zip(part.channels, part.positions, strict=True)
                )
    slices, unequal = [], ""
    for (tensor, axis), pairs in held.items():
        placed = _places(pairs)
        if placed is None:
            unequal = unequal or f"{owners[tensor, axis].layer} holds its channels in unequal shares"
            continue
        makes = owners[tensor, axis].makes
        slices.append(Slice(tensor=tensor, axis=axis, channels=placed[0], places=placed[1], makes=makes))
    return tuple(slices), unequal


def _places(pairs: Iterable[tuple[int, int]]) -> tuple[Places, Places] | None:
    """The channels in rising order and their positions, one row each; None where one has more of them than another."""
    members: dict[int, list[int]] = defaultdict(list)
    for channel, position in sorted(pairs):
        members[channel].append(position)
    if len({len(found) for found in members.values()}) != 1:
        return None
    return np.array(list(members), np.intp), np.array(list(members.values()), np.intp)


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
                return (), f"{name} makes one channel of several, in groups"
            state = module.state_dict()
            return tuple((f"{name}.{key}" if name else key, axis) for key, axis in places if key in state), ""
    if graph.get_pruner_of_module(module) is not None:
        return (), f"{name} is a {type(module).__name__}"
    return (), ""


def _of_convolution(module: Any, makes: bool) -> tuple[tuple[str, int], ...] | None:
    if is_one_to_one(module):
        return ("weight", 0), ("bias", 0)
    if module.groups > 1 and module.groups == module.out_channels:
        return None  # torch-pruning takes it for one to one
    out_axis = 1 if module.transposed else 0
    places = (("weight", out_axis), ("bias", 0)) if makes else (("weight", 1 - out_axis),)
    # Where whole groups go, the second axis, a group's own, stays.
    return tuple(one for one in places if one != ("weight", 1)) if has_own_groups(module) else places


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
