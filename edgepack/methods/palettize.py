"""Weight sharing: all weights of a layer have one of a few values, which training has chosen (Deep Compression, Han et al. 2016, arXiv:1510.00149).

The model file is an ordinary one. `quantize` keeps the values as int8 codes, at most as many different ones as the codebook has entries, and the
transport coder of `edgepack pack` sends places in the codebook instead of codes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.core.section import Section
from edgepack.methods.fine_tune import fine_tune
from edgepack.methods.protocol import Context, Phase
from edgepack.network.training import Training

if TYPE_CHECKING:
    import torch

    from edgepack.network.grid import Op
    from edgepack.network.model import Model

_INT8, _INT7 = 127, 63


class Palettize(Section):
    """Let the weights of a layer share few values, found by k-means and trained."""

    phase: ClassVar[Phase] = Phase.SHARING
    bits: int = Field(
        default=4,
        ge=2,
        le=8,
        description="A weight is one of 2^bits values. Zero is one of them where weights are zero.",
    )
    group_channels: int | None = Field(
        default=None,
        ge=1,
        description="Output channels, one after another, that share a codebook and a scale. Default: all of a layer, the cheapest to code.",
    )
    ignore: tuple[str, ...] = Field(
        default=(), description="Layers left as they are, by parameter name, e.g. `stem.0.weight`."
    )
    train: Training = Field(
        default=Training(epochs=5),
        description="The training of the shared values, of biases and of batch norms' factors.",
    )

    @property
    def needs_training_samples(self) -> bool:
        """Always: the shared values are trained."""
        return True

    def apply(self, model: Model, context: Context) -> Model:
        """The model with shared weights; zeros stay. Raises RecipeError for an ignored layer that doesn't exist, or where none is left."""
        from edgepack.network.grid import trace
        from edgepack.network.masks import without_hooks
        from edgepack.network.palette import attach

        ops = trace(model.build().eval(), model.example())
        left_alone: dict[str, str] = {}
        axes = self._axes(model, ops, left_alone)
        plain = without_hooks(model, ops)
        context.progress.start(f"Finding {2**self.bits} values for each of {len(axes)} weights")
        palettes = self._palettes(plain, axes, _INT7 if context.constraints.overflow_fix else _INT8)
        context.progress.done()
        for name, palette in palettes.items():
            attach(plain.network, name, palette)
        trained = fine_tune(plain, self.train, context, what=f"Training {2**self.bits} shared values a layer")
        return _finished(model, plain, palettes).with_step(
            method="palettize",
            bits=self.bits,
            **_facts(plain, palettes),
            left_alone=left_alone,
            steps=trained.steps,
            best_step=trained.best_step,
        )

    def _axes(self, model: Model, ops: dict[str, Op], left_alone: dict[str, str]) -> dict[str, int]:
        """The axis of the output channels, by the names of the weights that get a codebook."""
        from edgepack.network.grid.operations import OUTPUT_CHANNEL_AXIS

        axes = {op.weight: OUTPUT_CHANNEL_AXIS.get(op.kind, 0) for op in ops.values() if op.weight is not None}
        for name in self.ignore:
            if name not in axes:
                raise RecipeError(
                    f"compress.palettize.ignore: no layer has the weight '{name}'{did_you_mean(name, axes)}"
                )
        places = Counter(id(one) for _, one in model.network.named_parameters(remove_duplicate=False))
        for name in axes:
            weight = model.network.get_parameter(name)
            if name in self.ignore:
                left_alone[name] = "the recipe says so"
            elif name in model.levels:
                left_alone[name] = "an earlier step gave it few levels"
            elif places[id(weight)] > 1:
                left_alone[name] = "several layers share it"
            elif weight.numel() <= 2**self.bits:
                left_alone[name] = "it has no more weights than a codebook has entries"
        left = {name: axis for name, axis in axes.items() if name not in left_alone}
        if not left:
            told = (
                "; ".join(f"'{name}': {because}" for name, because in left_alone.items()) or "the model has no weights"
            )
            raise RecipeError(
                f"compress.palettize: no weight is left to share values ({told}); leave the step out, or shorten 'ignore'"
            )
        return left

    def _palettes(self, plain: Model, axes: dict[str, int], largest_code: int) -> dict[str, Any]:
        from edgepack.network.palette import Palette

        turned = _turned_channels(plain)
        return {
            name: Palette(
                plain.network.get_parameter(name).detach(),
                entries=2**self.bits,
                axis=axis,
                group_channels=self.group_channels,
                largest_code=largest_code,
                turned=turned.get(name),
            )
            for name, axis in axes.items()
        }


def _turned_channels(model: Model) -> dict[str, torch.Tensor]:
    """-1 for each output channel whose sign the folded batch norm turns, else 1, by weight: the file's codes are to be few, not the network's."""
    import torch

    from edgepack.network.fold import program_of

    turned = {}
    for layer in program_of(model).layers:
        if layer.scaled_by is not None and layer.kind != "batch_norm":
            factor = model.network.get_parameter(layer.scaled_by).detach()
            turned[layer.name] = torch.where(factor < 0, -1, 1)
    return turned


def _finished(model: Model, plain: Model, palettes: dict[str, Any]) -> Model:
    """The model with the values that were trained, the masks that it had, and word of what is shared for `quantize`."""
    from edgepack.network.channels.state import masks_of
    from edgepack.network.masks import keep_zeros
    from edgepack.network.palette import computed

    state = {name: value for name, value in plain.network.state_dict().items() if "parametrizations" not in name}
    state |= {name: computed(plain.network, name).clone() for name in palettes}
    network = model.build().eval()
    network.load_state_dict(state)
    if masked := list(masks_of(model.network)):
        network = keep_zeros(network, model.example(), masked)
    levels = {name: palette.largest_code for name, palette in palettes.items()}
    shared = {name: _distinct(network.get_parameter(name).detach()) for name in palettes}
    return replace(model, network=network, levels={**model.levels, **levels}, shared={**model.shared, **shared})


def _distinct(weight: torch.Tensor) -> int:
    return int(np.unique(weight.numpy()).size)


def _facts(plain: Model, palettes: dict[str, Any]) -> dict[str, Any]:
    """What a lineage says: weights that share values, zeros among them, and bytes by the zero-order entropy of the values of each layer."""
    from edgepack.network.palette import computed

    weights, zeros, bits = 0, 0, 0.0
    for name, palette in palettes.items():
        values = (computed(plain.network, name) * palette.signs.sign()).numpy()
        share = np.unique(values, return_counts=True)[1] / values.size
        bits += float(-(share * np.log2(share)).sum()) * values.size
        weights, zeros = weights + values.size, zeros + int((values == 0).sum())
    return {"weights": weights, "zeros": zeros, "estimated_bytes": round(bits / 8)}
