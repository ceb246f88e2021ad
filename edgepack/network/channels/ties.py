"""Which channels grouped convolutions tie together: those that can only go, or change places, as one.

A convolution in g groups keeps g of them, all equally wide, so what goes from one goes from each at the same relative place. One with a group for each input
channel (depthwise with a multiplier) loses whole groups: an input channel, and all that it makes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where channels of one of torch-pruning's groups lie in a layer that makes or reads them: `channels[i]` at `positions[i]` of its outputs or inputs."""

    layer: str
    module: Any
    makes: bool
    channels: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tied:
    """Some of torch-pruning's groups, `members` by index, as one group of `count` channels: channel c of member m belongs to channel `numbers[m][c]` of it.

    `layers` are the grouped convolutions that tie them; `obstacle` says why they can't be told apart, '' where they can.
    """

    members: tuple[int, ...]
    count: int
    numbers: dict[int, NDArray[np.intp]]
    layers: tuple[str, ...]
    obstacle: str


def is_one_to_one(module: Any) -> bool:
    """Whether a convolution makes each channel of one other: depthwise without a multiplier."""
    return bool(module.groups == module.in_channels == module.out_channels and module.groups > 1)


def has_own_groups(module: Any) -> bool:
    """Whether each input channel of a convolution has a group of its own, which makes one or several channels."""
    return bool(module.groups == module.in_channels and module.groups > 1)


def tied(groups: Sequence[tuple[int, Sequence[Part]]]) -> tuple[Tied, ...]:
    """The groups, each given by its number of channels and its parts, joined where a grouped convolution ties them; in the order of their first members.

    Channels are numbered by the first of those they consist of, so numbers stay in order when some go.
    """
    starts = np.concatenate([[0], np.cumsum([count for count, _ in groups])]).astype(int)
    same_channel: list[tuple[int, int]] = []
    same_group: list[tuple[int, int]] = []
    layers: dict[int, list[str]] = defaultdict(list)
    obstacles: dict[int, str] = {}
    for parts in _by_grouped_layer(groups):
        seen: dict[tuple[bool, int], int] = {}
        for index, part in parts:
            same_group.append((parts[0][0], index))
            for channel, position in zip(part.channels, part.positions, strict=True):
                node = int(starts[index]) + channel
                same_channel.append((seen.setdefault(_key(part, position), node), node))
        layers[parts[0][0]].append(parts[0][1].layer)
        if obstacle := _incomplete([part for _, part in parts]):
            obstacles[parts[0][0]] = obstacle
    channels = _firsts(int(starts[-1]), same_channel)
    together: dict[int, list[int]] = defaultdict(list)
    for index, first in enumerate(_firsts(len(groups), same_group).tolist()):
        together[first].append(index)
    return tuple(_joined(members, starts, channels, layers, obstacles) for members in together.values())


def _firsts(count: int, pairs: Sequence[tuple[int, int]]) -> NDArray[np.intp]:
    """For each number below `count` the least one that pairs join it to, by way of others, too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = np.array(pairs, np.intp).reshape(-1, 2).T
    _, sets = connected_components(coo_array((np.ones(len(pairs)), (one, other)), (count, count)), directed=False)
    _, firsts = np.unique(sets, return_index=True)
    return firsts[sets]


def _by_grouped_layer(groups: Sequence[tuple[int, Sequence[Part]]]) -> list[list[tuple[int, Part]]]:
    """The parts, with the index of their group, of each grouped convolution; of one that has inputs and outputs of its own, those of each side apart."""
    found: dict[tuple[str, bool], list[tuple[int, Part]]] = defaultdict(list)
    for index, (_, parts) in enumerate(groups):
        for part in parts:
            module = part.module
            if isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1 and not is_one_to_one(module):
                found[part.layer, part.makes and not has_own_groups(module)].append((index, part))
    return list(found.values())


def _key(part: Part, position: int) -> tuple[bool, int]:
    """The same for channels that a grouped convolution ties together."""
    module = part.module
    if has_own_groups(module):
        return False, position // (module.out_channels // module.in_channels) if part.makes else position
    return part.makes, position % _width(module, makes=part.makes)


def _width(module: Any, *, makes: bool) -> int:
    """How many channels a group of the convolution makes or reads."""
    return int((module.out_channels if makes else module.in_channels) // module.groups)


def _incomplete(parts: Sequence[Part]) -> str:
    """Why not all channels are known that a grouped convolution ties; '' where they are."""
    module, layer = parts[0].module, parts[0].layer
    for makes in (False, True) if has_own_groups(module) else (parts[0].makes,):
        known = {position for part in parts if part.makes == makes for position in part.positions}
        if len(known) < (module.out_channels if makes else module.in_channels):
            return (
                f"{layer} has groups, and makes channels that can't be followed"
                if makes
                else (f"{layer} has groups, and reads channels that no layer makes")
            )
    return ""


def _joined(
    members: list[int],
    starts: NDArray[Any],
    channels: NDArray[np.intp],
    layers: dict[int, list[str]],
    obstacles: dict[int, str],
) -> Tied:
    first = {m: channels[starts[m] : starts[m + 1]].tolist() for m in members}
    number = {node: i for i, node in enumerate(sorted({node for own in first.values() for node in own}))}
    tying = tuple(dict.fromkeys(layer for m in members for layer in layers[m]))
    obstacle = next((obstacles[m] for m in members if m in obstacles), "")
    if tying and len(number) == 1:
        obstacle = obstacle or f"all its channels go together, for the groups of {' and '.join(tying)}"
    return Tied(
        members=tuple(members),
        count=len(number),
        numbers={m: np.array([number[node] for node in own], np.intp) for m, own in first.items()},
        layers=tying,
        obstacle=obstacle,
    )
