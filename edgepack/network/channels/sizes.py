"""A network with other numbers of channels: its layers are given tensors of other shapes, and told so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from edgepack.network.channels.ties import has_own_groups

Shapes = Mapping[str, tuple[int, ...]]


def shapes_that_differ(old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of the new state's tensors that are not those of the old one."""
    return {name: tuple(new[name].shape) for name, value in old.items() if new[name].shape != value.shape}


def with_shapes(build: Callable[[], nn.Module], shapes: Shapes) -> Callable[[], nn.Module]:
    """A builder of the same architecture with fewer channels; values are loaded afterwards."""
    return partial(_built, build, dict(shapes)) if shapes else build


def resize(network: nn.Module, shapes: Shapes) -> None:
    """Give parameters and buffers these shapes, by name in the state dict, and set what the layers say about themselves."""
    changed: dict[str, nn.Module] = {}
    for name, shape in shapes.items():
        path, _, key = name.rpartition(".")
        layer = network.get_submodule(path)
        if key in layer._parameters:
            old: Any = layer._parameters[key]
            layer._parameters[key] = nn.Parameter(old.new_zeros(shape), requires_grad=old.requires_grad)
        else:
            layer.register_buffer(key, layer.get_buffer(key).new_zeros(shape))
        changed[path] = layer
    for layer in changed.values():
        _tell(layer)


def _built(build: Callable[[], nn.Module], shapes: Shapes) -> nn.Module:
    network = build()
    resize(network, shapes)
    return network


def _tell(layer: Any) -> None:
    """A layer's own counts, from the shape of its weight."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        _tell_convolution(layer)
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
        layer.num_features = len(layer.running_mean if layer.running_mean is not None else layer.weight)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = layer.weight.numel()


def _tell_convolution(layer: Any) -> None:
    """Its channels; and its groups, where each input channel has its own. Else those are as many as before."""
    first, second = layer.weight.shape[:2]
    if has_own_groups(layer):
        times = layer.out_channels // layer.in_channels
        layer.groups = layer.in_channels = first if layer.transposed else first // times
        layer.out_channels = layer.in_channels * times
    else:
        layer.out_channels, layer.in_channels = first, second * layer.groups
        if layer.transposed:
            layer.out_channels, layer.in_channels = second * layer.groups, first
