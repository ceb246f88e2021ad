"""Channels in a state dict: moved to other places, or removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn

from edgepack.network.channels.groups import ChannelGroup, Places


def moved(state: Mapping[str, torch.Tensor], group: ChannelGroup, order: Places) -> dict[str, torch.Tensor]:
    """The state with the group's old channel `order[i]` in place i. Tensors that the group has no part in are the same objects.

    Channels must stay within their class (`ChannelGroup.classes`).
    """
    new = dict(state)
    for one in group.slices:
        row = {channel: index for index, channel in enumerate(one.channels.tolist())}
        positions = np.arange(new[one.tensor].shape[one.axis])
        positions[one.places.reshape(-1)] = one.places[[row[order[c]] for c in one.channels.tolist()]].reshape(-1)
        new[one.tensor] = new[one.tensor].index_select(one.axis, torch.from_numpy(positions))
    return new


def without(
    state: Mapping[str, torch.Tensor], removed: Iterable[tuple[ChannelGroup, Places]]
) -> dict[str, torch.Tensor]:
    """The state without some channels of each group; all groups at once, as several may have channels in one tensor."""
    gone: dict[tuple[str, int], list[Places]] = {}
    for group, channels in removed:
        for one in group.slices:
            gone.setdefault((one.tensor, one.axis), []).append(one.places[np.isin(one.channels, channels)].reshape(-1))
    new = dict(state)
    for (tensor, axis), positions in gone.items():
        kept = np.setdiff1d(np.arange(state[tensor].shape[axis]), np.concatenate(positions))
        new[tensor] = new[tensor].index_select(axis, torch.from_numpy(kept))
    return new


def masks_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """The masks that pruning has put on parameters, by parameter name; they are the hooks' own tensors."""
    from nncf.torch.function_hook.pruning.magnitude.modules import UnstructuredPruningMask
    from nncf.torch.function_hook.wrapper import get_hook_storage

    from edgepack.network.model import is_hooked

    if not is_hooked(network):
        return {}
    return {
        name.removeprefix("post_hooks.").rpartition("__")[0].replace(":", "."): hook.binary_mask
        for name, hook in get_hook_storage(network).named_hooks(remove_duplicate=False)
        if isinstance(hook, UnstructuredPruningMask)
    }
