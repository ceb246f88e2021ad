"""Pruning and quantization that know what a weight costs to code: the transport coder's bytes are what is saved.

A weight's score is what removing it costs the network (weight² × Fisher information, as in Optimal Brain Damage, LeCun et al. 1990) divided by what keeping
it costs the coder (`network.coding_cost`). Masks are chosen anew while the network trains, so a removed weight comes back when its neighbours have made it
cheap or the network needs it; then the weights learn few levels (LSQ), which `quantize` keeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgepack.core.errors import RecipeError, UnsupportedError, did_you_mean
from edgepack.core.section import Section
from edgepack.methods.fine_tune import fine_tune
from edgepack.methods.protocol import Context, Phase
from edgepack.network.training import Training

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgepack.network.few_levels import FewLevels
    from edgepack.network.grid import Op
    from edgepack.network.model import Model


class PruneEntropy(Section):
    """Remove the weights that cost the most to code for what they do, and round the others to few levels."""

    phase: ClassVar[Phase] = Phase.WEIGHTS
    sparsity: float | None = Field(default=None, gt=0, lt=1, description="Share of the weights that become zero.")
    max_bits_per_weight: float | None = Field(
        default=None, gt=0, lt=8, description="Instead of `sparsity`: estimated bits of a weight once it is coded."
    )
    max_bytes: int | None = Field(
        default=None, ge=1, description="Instead of `sparsity`: estimated bytes of all weights once they are coded."
    )
    levels: Literal[1, 3, 7, 15] | None = Field(
        default=7,
        description="Weights become step × code with codes from -levels to levels; the step is learned. Leave it to `quantize`: `null` in Python.",
    )
    levels_per: Literal["tensor", "channel"] = Field(
        default="tensor",
        description="Whether a step holds for the whole weight (cheapest to code) or for one output channel.",
    )
    bias_levels: Literal[1, 3, 7, 15] | None = Field(
        default=None,
        description="The same for the layers' biases, which then count among the weights and may become zero, too. Default: left as they are.",
    )
    quantize_from: float = Field(
        default=0.7, ge=0, lt=1, description="Share of the training after which weights are rounded to their levels."
    )
    coding_cost: bool = Field(
        default=True, description="Whether scores are divided by the coding cost; `false` prunes by Fisher information."
    )
    ramp: float = Field(
        default=0.6,
        gt=0,
        lt=1,
        description="Share of the training over which weights become fewer, along a cubic curve (Zhu and Gupta 2017, arXiv:1710.01878).",
    )
    regrow_until: float = Field(
        default=0.85, gt=0, lt=1, description="Share of the training after which the masks stay; at least `ramp`."
    )
    update_every: int = Field(default=50, ge=1, description="Steps between two choices of the masks.")
    ignore: tuple[str, ...] = Field(
        default=(), description="Layers left as they are, by parameter name, e.g. `stem.0.weight`."
    )
    train: Training = Field(
        default=Training(epochs=20), description="The training in which weights go and the network recovers."
    )

    @model_validator(mode="after")
    def _one_target(self) -> PruneEntropy:
        given = [name for name in ("sparsity", "max_bits_per_weight", "max_bytes") if getattr(self, name) is not None]
        if len(given) != 1:
            told = " and ".join(f"'{name}'" for name in given) or "none"
            raise ValueError(f"give one of 'sparsity', 'max_bits_per_weight' and 'max_bytes', not {told}")
        if self.regrow_until < self.ramp:
            raise ValueError(
                f"'regrow_until' ({self.regrow_until}) must not lie before the end of 'ramp' ({self.ramp})"
            )
        return self

    @property
    def needs_training_samples(self) -> bool:
        """Always: what a weight is worth shows in its gradients."""
        return True

    def apply(self, model: Model, context: Context) -> Model:
        """The model with masks on its weights, which lie on few levels. Raises RecipeError, UnsupportedError."""
        from edgepack.network.grid import trace
        from edgepack.network.masks import without_hooks
        from edgepack.network.model import is_hooked

        ops = trace(model.build().eval(), model.example())
        plain = without_hooks(model, ops)
        axes = self._axes(ops)
        self._refuse_shared(plain.network, axes)
        work = _Pruning.begin(self, plain, axes, keep_zeros=is_hooked(model.network))
        work.refuse_tiny_budget()
        trained = fine_tune(
            plain,
            self.train,
            context,
            what=f"Pruning to {self.told_target()}",
            before_step=work.before_step,
            best_after=max(self.regrow_until, self.quantize_from),
        )
        facts = work.facts()
        return work.finish(model).with_step(
            method="prune_entropy", **facts, steps=trained.steps, best_step=trained.best_step
        )

    def _axes(self, ops: dict[str, Op]) -> dict[str, int]:
        """The axis of the output channels, by the names of the weights that are pruned."""
        from edgepack.network.grid.operations import OUTPUT_CHANNEL_AXIS

        axes = {op.weight: OUTPUT_CHANNEL_AXIS.get(op.kind, 0) for op in ops.values() if op.weight is not None}
        for name in self.ignore:
            if name not in axes:
                raise RecipeError(
                    f"compress.prune_entropy.ignore: no layer has the weight '{name}'{did_you_mean(name, axes)}"
                )
        left = {name: axis for name, axis in axes.items() if name not in self.ignore}
        if not left:
            raise RecipeError("compress.prune_entropy: no weight is left to prune; shorten 'ignore'")
        return left

    @staticmethod
    def _refuse_shared(network: nn.Module, names: Iterable[str]) -> None:
        """Raises UnsupportedError for a weight that several layers have: it would be rounded in one of them only."""
        owners: dict[int, list[str]] = {}
        for name, parameter in network.named_parameters(remove_duplicate=False):
            owners.setdefault(id(parameter), []).append(name)
        for shared in owners.values():
            if len(shared) > 1 and (found := set(shared) & set(names)):
                raise UnsupportedError(
                    f"compress.prune_entropy: {' and '.join(shared)} are one weight, which this method can't take; add '{min(found)}' to 'ignore'"
                )

    def told_target(self) -> str:
        """What the training works towards, in words."""
        if self.sparsity is not None:
            return f"{self.sparsity:.1%} zeros"
        return f"{self.max_bytes:,} B" if self.max_bytes is not None else f"{self.max_bits_per_weight} bits a weight"


@dataclass(slots=True)
class _Pruning:
    """The weights under work: which are kept, and when that is decided."""

    options: PruneEntropy
    model: Model
    layers: dict[str, FewLevels]
    total: int

    @classmethod
    def begin(cls, options: PruneEntropy, model: Model, axes: dict[str, int], *, keep_zeros: bool = False) -> _Pruning:
        """Attach to the weights, and to their biases if asked; `keep_zeros`: what is zero, an earlier step has removed."""
        from edgepack.network.few_levels import attach, biases_beside

        layers, per_channel = {}, options.levels_per == "channel"
        zeros = {name: model.network.get_parameter(name).detach() == 0 for name in axes}
        for name, axis in axes.items():
            layers[name] = attach(model.network, name, levels=options.levels or 127, axis=axis, per_channel=per_channel)
            if keep_zeros:
                layers[name].allowed &= ~zeros[name]
                layers[name].mask &= ~zeros[name]
        for name in biases_beside(model.network, axes) if options.bias_levels is not None else ():
            layers[name] = attach(model.network, name, levels=options.bias_levels or 127, axis=0, per_channel=False)
        return cls(options, model, layers, sum(layer.mask.numel() for layer in layers.values()))

    def refuse_tiny_budget(self) -> None:
        """Raises RecipeError for a budget in which no weight of each layer has room."""
        from edgepack.network.coding_cost import guessed_value_bits

        value_bits = guessed_value_bits(self.options.levels or 127)
        least = sum(math.log2(layer.mask.numel()) + value_bits for layer in self.layers.values())
        if self.options.sparsity is None and self._target_bits() < least:
            raise RecipeError(
                f"compress.prune_entropy: {self.options.told_target()} can't hold one weight of each of the {len(self.layers)} layers; "
                f"give at least {math.ceil(least / 8)} bytes ({least / self.total:.2g} bits a weight), better many times that"
            )

    def before_step(self, step: int, total: int) -> None:
        options, last = self.options, total - 1
        ramp = min(last, max(1, round(total * options.ramp)))
        settled = min(last, max(ramp, round(total * options.regrow_until)))
        if step <= settled and ((step and step % options.update_every == 0) or step in (ramp, settled)):
            self._choose(left=(1 - min(1.0, step / max(1, ramp))) ** 3)
        if step == min(last, round(total * options.quantize_from)):
            for name, layer in self.layers.items():
                if self._rounds(name):
                    layer.begin_quantizing(self._latent(name))

    def _choose(self, *, left: float) -> None:
        """New masks; `left` falls from 1 (everything is kept) to 0 (the target)."""
        import torch

        from edgepack.network.coding_cost import bits_to_keep

        costs, scores = [], []
        for name, layer in self.layers.items():
            cost = bits_to_keep(layer.mask, layer.axis, value_bits=self._value_bits(name))
            fisher = layer.fisher if bool(layer.fisher.any()) else torch.ones_like(layer.fisher)
            score = self._latent(name).detach() ** 2 * fisher * layer.allowed
            scores.append((score / cost if self.options.coding_cost else score).flatten())
            costs.append(cost.flatten())
        score, cost = torch.cat(scores), torch.cat(costs)
        kept = torch.zeros_like(score, dtype=torch.bool)
        if self.options.sparsity is not None:
            count = max(1, round(self.total * (1 - self.options.sparsity * (1 - left))))
            kept[score.topk(count, sorted=False).indices] = True
        else:
            order = score.argsort(descending=True, stable=True)
            kept[order[: self._affordable(cost[order], left)]] = True
        kept &= score > 0
        for layer, part in zip(self.layers.values(), torch.split(kept, [c.numel() for c in costs]), strict=True):
            layer.mask.copy_(part.reshape(layer.mask.shape))

    def _affordable(self, cost: torch.Tensor, left: float) -> int:
        """How many of the weights, the best first, a budget of bits holds."""
        import torch

        from edgepack.network.coding_cost import probability_of

        zeros = sum(
            float(-torch.log2(1 - probability_of(layer.mask, layer.axis)).sum()) for layer in self.layers.values()
        )
        target = self._target_bits()
        dense = sum(self._value_bits(name) * layer.mask.numel() for name, layer in self.layers.items())
        spent = cost.double().cumsum(0)
        # `zeros` is what the places cost even if nothing more were kept; it falls as the masks do.
        budget = target + max(0.0, dense - target) * left
        return max(1, int(torch.searchsorted(spent, max(0.0, budget - min(zeros, budget / 2)))))

    def _target_bits(self) -> float:
        if self.options.max_bytes is not None:
            return 8.0 * self.options.max_bytes
        assert self.options.max_bits_per_weight is not None
        return self.options.max_bits_per_weight * self.total

    def _value_bits(self, name: str) -> float:
        from edgepack.network.coding_cost import guessed_value_bits, value_bits_of

        layer = self.layers[name]
        if not layer.is_quantizing:
            return guessed_value_bits(layer.levels)
        codes = layer.codes(self._latent(name).detach())
        return value_bits_of(codes[codes != 0].abs())

    def _rounds(self, name: str) -> bool:
        """Whether this weight or bias gets few levels."""
        return (self.options.levels if self.layers[name].mask.dim() > 1 else self.options.bias_levels) is not None

    def _latent(self, name: str) -> torch.Tensor:
        from edgepack.network.few_levels import latent

        return latent(self.model.network, name)

    def facts(self) -> dict[str, Any]:
        """What was reached, for the lineage."""
        from edgepack.network.coding_cost import description_bits

        zeros, bits = 0, 0.0
        for name, layer in self.layers.items():
            codes = layer.codes(self._latent(name).detach()) if self._rounds(name) else None
            zeros += int((~layer.mask).sum() if codes is None else (codes == 0).sum())
            bits += 0.0 if codes is None else description_bits(codes, layer.axis)
        facts: dict[str, Any] = {"zeros": zeros, "weights": self.total}
        if self.options.levels is not None:
            facts |= {"levels": self.options.levels, "estimated_bytes": round(bits / 8)}
        return facts

    def finish(self, model: Model) -> Model:
        """The model with the values that were trained, masks that keep its zeros, and the levels that `quantize` keeps."""
        from edgepack.network.few_levels import computed
        from edgepack.network.masks import keep_zeros

        state = {
            name: value for name, value in self.model.network.state_dict().items() if "parametrizations" not in name
        }
        state |= {name: computed(self.model.network, name).clone() for name in self.layers}
        network = model.build().eval()
        network.load_state_dict(state)
        levels = {name: layer.levels for name, layer in self.layers.items() if self._rounds(name)}
        weights = [name for name, layer in self.layers.items() if layer.mask.dim() > 1]
        return replace(model, network=keep_zeros(network, model.example(), weights), levels={**model.levels, **levels})
