"""A network that loses channels step by step: which may go, which go next, and the smaller network that is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgepack.core.errors import RecipeError
from edgepack.network.channels.groups import ChannelGroup, Places, channel_groups
from edgepack.network.channels.sizes import resize, shapes_that_differ, with_shapes
from edgepack.network.channels.state import moved, without
from edgepack.network.channels.work import macs_of, parameters_of, uses_of
from edgepack.network.model import Model, flat_outputs

Measure = Literal["macs", "parameters"]
Scope = Literal["model", "layer"]
Scores = Mapping[str, NDArray[np.float64]]
# Sums in another order differ in float32's last bits; a wrong permutation differs by as much as the outputs themselves.
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`keep_min`: smallest share of a layer's channels that stays; `round_to`: what the number of channels left is a multiple of."""

    keep_min: float
    round_to: int

    def kept(self, wanted: int, *, now: int, at_first: int, least: int = 1, tied: int = 1) -> int:
        """How many of `now` channels stay when `wanted` should, of those that were there `at_first`; `tied` of a layer's go as one."""
        stay = max(least, math.ceil(self.keep_min * at_first), wanted)
        step = self.round_to // math.gcd(self.round_to, tied)
        return min(now, math.ceil(stay / step) * step)


class Narrowing:
    """A model without hooks that loses channels. `model` is what it has become; `kept` maps each group to the old positions of the channels left.

    `left_alone` says of each group that keeps all its channels why.
    """

    def __init__(self, model: Model, inputs: tuple[torch.Tensor, ...], *, ignore: Collection[str]) -> None:
        self.model = model
        self._inputs = inputs
        self._uses = uses_of(model.network, model.example())
        self._weights = frozenset(name for name, _ in model.network.named_parameters())
        self.left_alone: dict[str, str] = {}
        self.kept: dict[str, Places] = {}
        self._at_first: dict[str, NDArray[np.intp]] = {}
        for group in channel_groups(model.network, model.example()):
            because = group.obstacle or (
                "the recipe says so" if set(group.makers) & set(ignore) else self._unsound(group)
            )
            if because:
                self.left_alone[group.name] = because
                continue
            self.kept[group.name] = np.arange(group.channels)
            sizes = np.zeros(group.channels, np.intp)
            for members in group.classes:
                sizes[members] = len(members)
            self._at_first[group.name] = sizes

    @property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """Those that may lose channels, as they are now."""
        found = channel_groups(self.model.network, self.model.example())
        return tuple(group for group in found if group.name in self.kept)

    def cost(self, measure: Measure, state: Mapping[str, torch.Tensor] | None = None) -> int:
        """Multiply-accumulates or parameters of the network, or of one with these weights."""
        state = self.model.network.state_dict() if state is None else state
        return macs_of(state, self._uses) if measure == "macs" else parameters_of(state, self._weights)

    def price(self, group: ChannelGroup, measure: Measure) -> float:
        """What the network costs less without one of the group's channels, on average over them."""
        state = self.model.network.state_dict()
        first_of_each = [members[:1] for members in group.classes]
        less = sum(
            len(members) * (self.cost(measure, state) - self.cost(measure, without(state, [(group, first)])))
            for members, first in zip(group.classes, first_of_each, strict=True)
        )
        return max(1.0, less / group.channels)

    def choose(
        self, scores: Scores, *, at_most: float, measure: Measure, scope: Scope, limits: Limits
    ) -> list[tuple[ChannelGroup, Places]]:
        """The least important channels without which the network costs `at_most`; groups that `scores` doesn't know keep theirs.

        Raises RecipeError, with what can be reached, where the limits leave too many.
        """
        groups = [group for group in self.groups if group.name in scores]
        state = self.model.network.state_dict()
        steps = sum(group.channels for group in groups) if scope == "model" else 1000
        pick = self._least_of_all if scope == "model" else self._least_of_each

        def left(step: int) -> int:
            return self.cost(measure, without(state, pick(groups, scores, step / max(1, steps), limits)))

        if left(steps) > at_most:
            whole = left(0)
            raise RecipeError(
                f"compress.prune_channels: at most {1 - left(steps) / whole:.0%} of the {measure} that are left can go, {1 - at_most / whole:.0%} should; "
                f"lower sparsity, keep_min or round_to, or ignore fewer layers (left alone: {', '.join(self.left_alone) or 'none'})"
            )
        low, high = 0, steps
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if left(middle) <= at_most else (middle + 1, high)
        return pick(groups, scores, low / max(1, steps), limits)

    def least(self, scores: Scores, *, measure: Measure, scope: Scope, limits: Limits) -> int:
        """What the network costs without every channel that may go."""
        groups = [group for group in self.groups if group.name in scores]
        pick = self._least_of_all if scope == "model" else self._least_of_each
        return self.cost(measure, without(self.model.network.state_dict(), pick(groups, scores, 1.0, limits)))

    def without(self, kept: Mapping[str, list[int]]) -> list[tuple[ChannelGroup, Places]]:
        """What must go so that these channels are left, by group. Raises RecipeError where this model hasn't such groups."""
        groups = {group.name: group for group in self.groups}
        gone = []
        for name, channels in kept.items():
            if name not in groups or not set(channels) <= set(range(groups[name].channels)):
                raise RecipeError(
                    f"update_of: another architecture: the base removed channels of '{name}', this model can't; "
                    "name a bundle of the same model, or leave 'update_of' out"
                )
            removed = np.setdiff1d(np.arange(groups[name].channels), np.array(channels, np.intp))
            gone += [(groups[name], removed)] if len(removed) else []
        return gone

    def remove(self, channels: list[tuple[ChannelGroup, Places]]) -> None:
        """Make the network smaller by these channels."""
        for group, gone in channels:
            self.kept[group.name] = np.delete(self.kept[group.name], gone)
        self.model = narrower(self.model, channels)

    def _least_of_all(
        self, groups: list[ChannelGroup], scores: Scores, share: float, limits: Limits
    ) -> list[tuple[ChannelGroup, Places]]:
        """This share of all channels, the lowest scores of the whole network."""
        every = np.sort(np.concatenate([scores[group.name] for group in groups])) if groups else np.zeros(1)
        count = round(share * len(every))
        threshold = every[count - 1] if count else -np.inf
        return self._picked(groups, scores, limits, lambda _first, own: int((own > threshold).sum()))

    def _least_of_each(
        self, groups: list[ChannelGroup], scores: Scores, share: float, limits: Limits
    ) -> list[tuple[ChannelGroup, Places]]:
        """This share of the channels that each layer had at first."""
        return self._picked(groups, scores, limits, lambda first, _own: math.ceil(first * (1 - share)))

    def _picked(
        self,
        groups: list[ChannelGroup],
        scores: Scores,
        limits: Limits,
        wanted: Callable[[int, NDArray[np.float64]], int],
    ) -> list[tuple[ChannelGroup, Places]]:
        picked = []
        for group in groups:
            gone = []
            for members in group.classes:
                own = scores[group.name][members]
                first = int(self._at_first[group.name][self.kept[group.name][members[0]]])
                stay = limits.kept(
                    wanted(first, own), now=len(members), at_first=first, least=group.least, tied=group.tied
                )
                gone.append(members[np.argsort(own, kind="stable")[: len(members) - stay]])
            picked.append((group, np.sort(np.concatenate(gone))))
        return [(group, gone) for group, gone in picked if len(gone)]

    def _unsound(self, group: ChannelGroup) -> str:
        """Why a group's channels can't be told apart from the rest of the forward; '' where they can."""
        network = self.model.build().eval()
        state = self.model.network.state_dict()
        order = np.arange(group.channels)
        for members in group.classes:
            order[members] = np.roll(members, 1)
        wanted = outputs_of(network, state, self._inputs)
        if not alike(outputs_of(network, moved(state, group, order), self._inputs), wanted):
            return "its channels are not interchangeable: moving them changes the outputs"
        first_of_each = np.array([members[0] for members in group.classes if len(members) > 1], np.intp)
        if not len(first_of_each):
            return "it has one channel of each kind"
        smaller = narrower(self.model, [(group, first_of_each)])
        try:
            found = outputs_of(smaller.network, smaller.network.state_dict(), self._inputs)
        except Exception as exc:  # noqa: BLE001  # forward is the user's code: whatever it raises, it needs all channels
            return f"forward needs all its channels: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}"
        same = all(ours.shape == theirs.shape for ours, theirs in zip(found, wanted, strict=True))
        return "" if same else "forward needs all its channels: an output has another shape without one"


def narrower(model: Model, channels: list[tuple[ChannelGroup, Places]]) -> Model:
    """A model without hooks, without these channels."""
    old = model.network.state_dict()
    state = without(old, channels)
    network = model.build()
    resize(network, shapes_that_differ(old, state))
    network.load_state_dict(state)
    shapes = {**model.shapes, **shapes_that_differ(old, state)}
    return replace(model, network=network.eval(), build=with_shapes(model.build, shapes), shapes=shapes)


def outputs_of(
    network: nn.Module, state: Mapping[str, torch.Tensor], inputs: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    """The outputs of a network with these values."""
    network.load_state_dict(state)
    with torch.no_grad():
        return flat_outputs(network.eval()(*inputs))


def alike(ours: tuple[torch.Tensor, ...], theirs: tuple[torch.Tensor, ...]) -> bool:
    """Whether outputs differ by no more than float32's rounding."""
    return all(
        torch.allclose(a, b, rtol=0, atol=TOLERANCE * max(1e-6, float(b.abs().max())))
        for a, b in zip(ours, theirs, strict=True)
    )
