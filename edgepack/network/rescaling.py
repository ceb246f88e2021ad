"""Where a scale of each channel between two layers can be taken into parameters that exist: one side is divided by it, the other multiplied, and no operation is added.

A graph of ATen operators (`network.tracing`) is followed from a norm's or a linear layer's output to all that reads it. What each element of a tensor on the way belongs to is known by its label, the number
of the channel that it came from: operations that move elements move the labels, so heads of attention are no special case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

_ATEN = torch.ops.aten
_LINEAR, _ADD = _ATEN.linear.default, _ATEN.add.Tensor
_NORMS = {_ATEN.layer_norm.default, _ATEN.rms_norm.default}
_MOVES = {
    _ATEN.alias.default,
    _ATEN.clone.default,
    _ATEN.contiguous.default,
    _ATEN.expand.default,
    _ATEN.flatten.using_ints,
    _ATEN.permute.default,
    _ATEN.reshape.default,
    _ATEN.select.int,
    _ATEN.slice.Tensor,
    _ATEN.squeeze.default,
    _ATEN.squeeze.dim,
    _ATEN.squeeze.dims,
    _ATEN.transpose.int,
    _ATEN.unflatten.int,
    _ATEN.unsqueeze.default,
    _ATEN.view.default,
}
_EACH_ALONE = {_ATEN.relu.default, _ATEN.relu_.default, _ATEN.leaky_relu.default, _ATEN.leaky_relu_.default}
_TOTALS = {_ATEN.sum.dim_IntList, _ATEN.mean.dim}
_DROPOUTS = {_ATEN.dropout.default, _ATEN.dropout_.default}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaling:
    """A tensor's channels that may be divided by any positive numbers: nothing changes if the input channels of all `readers` are multiplied by these.

    `divided` are the parameters that do it, by name, with the axis of their channels. `readers` are nodes of linear layers, `layers` their weights' names.
    """

    divided: tuple[tuple[str, int], ...]
    readers: tuple[fx.Node, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the readers' weights."""
        return tuple(str(node.args[1].target) for node in self.readers)  # type: ignore[union-attr]


def rescalings(module: fx.GraphModule) -> tuple[Rescaling, ...]:
    """All that the graph has, in the order of a forward; no layer reads two of them. Where a chain offers several places for the same readers, the first."""
    graph, found, taken = _Graph(module), list[Rescaling](), set[fx.Node]()
    for node in module.graph.nodes:
        if divided := graph.divided_by(node):
            walk = graph.follow(node)
            if walk.readers and not walk.obstacles and taken.isdisjoint(walk.readers):
                taken.update(walk.readers)
                found.append(Rescaling(divided=divided + walk.shifts, readers=tuple(walk.readers)))
    return tuple(found)


@torch.no_grad()
def rescale(network: nn.Module, one: Rescaling, scales: torch.Tensor) -> None:
    """Multiply the readers' input channels in the network's parameters, and divide what gives them. `scales` are float64, all above 0."""
    for name in one.layers:
        weight = network.get_parameter(name)
        weight.copy_(weight.double() * scales)
    for name, axis in one.divided:
        value = network.get_parameter(name)
        across = scales.reshape([-1 if d == axis % value.dim() else 1 for d in range(value.dim())])
        value.copy_(value.double() / across)


def linear_layers(module: fx.GraphModule) -> frozenset[str]:
    """The names of the weights that the graph's linear layers multiply by."""
    return frozenset(str(node.args[1].target) for node in module.graph.nodes if _is_linear(node))


def obstacles_of(module: fx.GraphModule, layers: Sequence[str]) -> dict[str, str]:
    """Why these weights' linear layers, by name, are the readers of no `Rescaling`, in words."""
    graph = _Graph(module)
    nodes = [node for node in module.graph.nodes if _is_linear(node)]
    told = {str(node.args[1].target): _unreached(node) for node in nodes}
    for node in module.graph.nodes:
        if graph.divided_by(node):  # the last one that reaches a layer is the nearest
            walk = graph.follow(node)
            for reader in walk.readers if walk.obstacles else ():
                told[str(reader.args[1].target)] = f"what it reads also goes to {walk.obstacles[0]}"  # type: ignore[union-attr]
    told |= {name: "its weight is used more than once" for name in told if graph.uses[name] > 1}
    return {name: told[name] for name in layers}


@dataclass(frozen=True, slots=True)
class _Walk:
    """Where channels went: linear layers that read them, parameters that are added to them on the way, and what else got them, in words."""

    readers: list[fx.Node]
    shifts: tuple[tuple[str, int], ...]
    obstacles: list[str]


class _Graph:
    """A graph, and how often it uses each parameter."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._nodes = list(module.graph.nodes)
        self._parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
        self.uses: Counter[str] = Counter()
        for node in self._nodes:
            if node.op == "get_attr":
                self.uses[str(node.target)] += len(node.users)

    def divided_by(self, node: fx.Node) -> tuple[tuple[str, int], ...]:
        """The parameters to divide, with their channels' axes, so that the last axis of the node's output is divided; none where that can't be."""
        arguments: Any = node.args
        if _is_linear(node):
            own, axis = arguments[1:3], 0
        elif node.target in _NORMS and len(arguments[1]) == 1 and len(arguments) > 2 and arguments[2] is not None:
            own, axis = arguments[2:4] if node.target is _ATEN.layer_norm.default else arguments[2:3], -1
        elif node.target is _ATEN.mul.Tensor:
            own, axis = [one for one in arguments if self._is_vector(one, node)][:1], -1
        else:
            return ()
        own = [one for one in own if one is not None]
        if not all(self._is_own(one) for one in own):
            return ()
        return tuple((str(one.target), axis) for one in own)

    def follow(self, source: fx.Node) -> _Walk:
        """Everything that the channels on the last axis of a node's output come to."""
        shape = source.meta["val"].shape
        labels = {source: torch.arange(shape[-1]).expand(shape)}
        walk, shifts = _Walk([], (), []), []
        for node in self._nodes[self._nodes.index(source) + 1 :]:
            if labels.keys().isdisjoint(node.all_input_nodes) or "_assert_" in str(node.target):
                continue
            places = [place for place, one in enumerate(node.args) if isinstance(one, fx.Node) and one in labels]
            given = None
            if len(places) == 1 and labels.keys().isdisjoint(_nodes_beside(node, places[0])):
                given = labels[node.args[places[0]]]
            if given is not None and self._reads(node, places[0], given):
                walk.readers.append(node)
            elif given is not None and (shift := self._shift(node, places[0], given)):
                labels[node] = given
                shifts.append((shift, -1))
            elif given is not None and (made := _carried(node, places[0], given)) is not None:
                labels[node] = made
            else:
                walk.obstacles.append(_kind(node))
        return _Walk(walk.readers, tuple(shifts), walk.obstacles)

    def _reads(self, node: fx.Node, place: int, labels: torch.Tensor) -> bool:
        return _is_linear(node) and place == 0 and self._is_own(node.args[1]) and _are_in_order(labels)

    def _shift(self, node: fx.Node, place: int, labels: torch.Tensor) -> str:
        """The parameter that is added to each channel, '' where the node doesn't."""
        if node.target is not _ADD or len(node.args) != 2 or node.kwargs or not _are_in_order(labels):
            return ""
        other: Any = node.args[1 - place]
        return str(other.target) if self._is_vector(other, node) and self._is_own(other) else ""

    def _is_vector(self, value: Any, node: fx.Node) -> bool:
        """Whether a value is a parameter with one number for each channel on the last axis of what the node gives, which has the shape of the other operand."""
        if not isinstance(value, fx.Node) or value.op != "get_attr" or str(value.target) not in self._parameters:
            return False
        (other, *_) = [one for one in node.args if one is not value] or [None]
        shape, made = value.meta["val"].shape, node.meta["val"].shape
        same = isinstance(other, fx.Node) and other.meta["val"].shape == made
        return same and bool(made) and 1 < made[-1] == shape[-1:].numel() == shape.numel()

    def _is_own(self, value: Any) -> bool:
        """Whether a value is a parameter that is used in one place."""
        return (
            isinstance(value, fx.Node) and str(value.target) in self._parameters and self.uses[str(value.target)] == 1
        )


def _is_linear(node: fx.Node) -> bool:
    weight = node.args[1] if node.target is _LINEAR else None
    return isinstance(weight, fx.Node) and weight.op == "get_attr"


def _nodes_beside(node: fx.Node, place: int) -> list[fx.Node]:
    """The nodes among all arguments but one."""
    found: list[fx.Node] = []
    fx.map_arg((node.args[:place], node.args[place + 1 :], node.kwargs), found.append)
    return found


def _are_in_order(labels: torch.Tensor) -> bool:
    """Whether each channel lies at its own place on the last axis, and nothing else does."""
    return bool(labels.dim() and (labels == torch.arange(labels.shape[-1])).all())


def _carried(node: fx.Node, place: int, labels: torch.Tensor) -> torch.Tensor | None:
    """The labels of what a node gives for an input with these; None where a factor of a channel doesn't come out as the same factor."""
    if node.target in _MOVES:
        moved: torch.Tensor = node.target(labels, *node.args[1:], **node.kwargs)
        return moved
    if node.target in _EACH_ALONE or (node.target in _DROPOUTS and node.args[2] is False):
        return labels
    rule = _RULES.get(node.target)
    return None if rule is None else rule(node, place, labels)


def _product(node: fx.Node, place: int, labels: torch.Tensor) -> torch.Tensor | None:
    """Factors pass an element's product with anything else, and its quotient by it."""
    return None if node.target is _ATEN.div.Tensor and place else labels.broadcast_to(node.meta["val"].shape)


def _total(node: fx.Node, _place: int, labels: torch.Tensor) -> torch.Tensor | None:
    """Factors pass a sum over elements of the same channel."""
    axes: Any = node.args[1]
    if not axes or not torch.equal(labels.amin(axes), labels.amax(axes)):
        return None
    return labels.amin(axes, keepdim=len(node.args) > 2 and bool(node.args[2]))


def _weighted(node: fx.Node, place: int, labels: torch.Tensor) -> torch.Tensor | None:
    """Attention adds up rows of its values, the last of two or three tensors: factors of columns pass."""
    shape, row = node.meta["val"].shape, labels[..., :1, :]
    is_last = place == (1 if node.target is _ATEN.matmul.default else 2)
    if not is_last or labels.dim() != len(shape) or labels.shape[:-2] != shape[:-2] or not bool((labels == row).all()):
        return None
    return row.expand(shape)


_RULES: Mapping[Any, Callable[[fx.Node, int, torch.Tensor], torch.Tensor | None]] = {
    _ATEN.mul.Tensor: _product,
    _ATEN.div.Tensor: _product,
    **dict.fromkeys(_TOTALS, _total),
    _ATEN.matmul.default: _weighted,
    _ATEN.scaled_dot_product_attention.default: _weighted,
}


def _kind(node: Any) -> str:
    """What a node does, in a word."""
    if node.op == "output":
        return "an output of the network"
    return str(node.target).split(".")[1] if "." in str(node.target) else str(node.target)


def _unreached(node: fx.Node) -> str:
    """Where a layer's input comes from, behind operations that pass any factor."""
    source: Any = node.args[0]
    while source.target in _MOVES | _EACH_ALONE | _DROPOUTS | _TOTALS:
        source = source.args[0]
    return (
        "it reads an input of the network"
        if source.op == "placeholder"
        else f"it reads what {_kind(source)} gives, which can take no scale"
    )
