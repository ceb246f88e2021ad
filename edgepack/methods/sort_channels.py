"""Hidden units in an order that codes better: the function stays the same, the transport coder finds like beside like.

A network doesn't notice when the channels between two layers change places, as long as all that make and read them change alike. A coder whose contexts
are neighbours does: it expects a zero where the rows above have zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from edgepack.core.errors import RecipeError
from edgepack.core.section import Section
from edgepack.methods.protocol import Context, Phase

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgepack.core.types import Samples
    from edgepack.network.channels.groups import ChannelGroup, Places
    from edgepack.network.model import Model

KIND = "sort"
_CHECKED_SAMPLES = 4


class SortChannels(Section):
    """Put hidden units beside those with like weights, so that they code better; outputs stay the same."""

    phase: ClassVar[Phase] = Phase.ORDER
    ignore: tuple[str, ...] = Field(
        default=(), description="Layers whose channels keep their order, by module name, e.g. `features.0`."
    )

    @property
    def needs_training_samples(self) -> bool:
        """Nothing is trained."""
        return False

    def apply(self, model: Model, context: Context) -> Model:
        """The model with its channels in order. Raises RecipeError for an ignored layer that doesn't exist."""
        from edgepack.network.channels.groups import named_layers

        named_layers(model.network, self.ignore, where="compress.sort_channels.ignore")
        context.progress.start("Sorting channels")
        work = _Sorting(model, context.calibration.take(slice(0, _CHECKED_SAMPLES)))
        given = None if context.base is None else _orders(context.base.edits)
        for group in work.groups:
            if given is not None and group.name not in given:
                work.leave(group, "the base leaves it in place")
            elif group.obstacle or set(group.makers) & set(self.ignore):
                work.leave(group, group.obstacle or "the recipe says so")
            else:
                order = work.order_of(group) if given is None else _checked(given[group.name], group)
                work.move(group, order)
        if given is not None and given.keys() - work.orders.keys():
            raise RecipeError(
                f"update_of: another architecture: the base has the channels of '{min(given.keys() - work.orders.keys())}' in an order that this model can't take"
            )
        sorted_model = work.result()
        context.progress.done(f"{len(work.orders)} groups, {len(work.left_alone)} left alone")
        return sorted_model


class _Sorting:
    """A model whose groups are moved one by one, each checked on samples: what changes an output is undone and named."""

    def __init__(self, model: Model, samples: Samples) -> None:
        from edgepack.network.channels.groups import channel_groups
        from edgepack.network.channels.state import masks_of
        from edgepack.network.model import as_tensors

        self.model = model
        self.masks = masks_of(model.network)
        self.plain: nn.Module = model.build().eval()
        names = self.plain.state_dict().keys()
        self.state = {name: value for name, value in model.network.state_dict().items() if name in names}
        self.plain.load_state_dict(self._masked(self.state, self.masks))
        self.groups = channel_groups(self.plain, model.example())
        self.inputs = as_tensors(model, samples)
        self.wanted = self._outputs(self.state, self.masks)
        self.orders: dict[str, list[int]] = {}
        self.left_alone: dict[str, str] = {}

    def leave(self, group: ChannelGroup, because: str) -> None:
        self.left_alone[group.name] = because

    def order_of(self, group: ChannelGroup) -> Places:
        from edgepack.network.channels.likeness import chained

        return chained(self._masked(self.state, self.masks), group)

    def move(self, group: ChannelGroup, order: Places) -> None:
        from edgepack.network.channels.narrowing import alike
        from edgepack.network.channels.state import moved

        state, masks = moved(self.state, group, order), _moved_masks(self.masks, group, order)
        found = self._outputs(state, masks)
        if alike(found, self.wanted):
            self.state, self.masks, self.orders[group.name] = state, masks, order.tolist()
        else:
            self.leave(group, "its channels are not interchangeable: moving them changes the outputs")

    def result(self) -> Model:
        from dataclasses import replace

        from edgepack.network.channels.state import masks_of

        self.model.network.load_state_dict(self.state, strict=False)
        for name, mask in masks_of(self.model.network).items():
            mask.copy_(self.masks[name])
        edit = {"kind": KIND, "method": "sort_channels", "channels": self.orders}
        return replace(self.model, edits=(*self.model.edits, edit)).with_step(
            method="sort_channels", sorted_groups=len(self.orders), left_alone=self.left_alone
        )

    def _outputs(self, state: dict[str, torch.Tensor], masks: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        from edgepack.network.channels.narrowing import outputs_of

        return outputs_of(self.plain, self._masked(state, masks), self.inputs)

    @staticmethod
    def _masked(state: dict[str, torch.Tensor], masks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: value * masks[name] if name in masks else value for name, value in state.items()}


def _moved_masks(masks: dict[str, Any], group: ChannelGroup, order: Any) -> dict[str, Any]:
    """The masks of parameters, moved as their parameters are."""
    from dataclasses import replace

    from edgepack.network.channels.state import moved

    part = replace(group, slices=tuple(one for one in group.slices if one.tensor in masks))
    return moved(masks, part, order)


def _orders(edits: tuple[Any, ...]) -> dict[str, list[int]]:
    return next((edit["channels"] for edit in edits if edit["kind"] == KIND), {})


def _checked(order: list[int], group: ChannelGroup) -> Places:
    if sorted(order) != list(range(group.channels)):
        raise RecipeError(
            f"update_of: another architecture: the base orders {len(order)} channels of '{group.name}', this model has {group.channels}"
        )
    return np.array(order, np.intp)
