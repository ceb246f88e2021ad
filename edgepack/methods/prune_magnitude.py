"""Magnitude pruning: the smallest weights become zero, gradually, while the others learn to do without.

The zeros lie anywhere (NNCF's masks), or in a pattern: N of each M weights, or whole blocks (`network.patterns`). They stay: the mask remains on the
weights through quantization-aware training and is written into the exported codes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.core.section import Section
from edgepack.methods.fine_tune import fine_tune
from edgepack.methods.protocol import Context, Phase
from edgepack.network.patterns import UNSTRUCTURED, NofM, Pattern, parse_pattern
from edgepack.network.training import Training

if TYPE_CHECKING:
    from torch import nn

    from edgepack.network.model import Model


class PruneMagnitude(Section):
    """Zero the smallest weights of each layer; training repairs the rest."""

    phase: ClassVar[Phase] = Phase.WEIGHTS
    sparsity: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description='Share of the weights that become zero. Required, but for a pattern of N in M, which makes it itself (`"2:4"`: 0.5).',
    )
    pattern: str = Field(
        default=UNSTRUCTURED,
        description='Where zeros may lie: `"unstructured"`, anywhere; `"2:4"` or another N:M, so that N of each M weights that follow one another along the '
        'input channels stay; `"4x1"`, `"1x4"`, `"4x4"`: blocks of output × input channels, which stay or go as a whole. Layers whose channels don\'t '
        "fit are left alone and named.",
    )
    scope: Literal["layer", "model"] = Field(
        default="layer",
        description="`layer`: this share of each layer. `model`: the smallest of all, by magnitude relative to the layer's norm.",
    )
    ramp: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="Share of the training over which sparsity rises, along a cubic curve (Zhu and Gupta 2017, arXiv:1710.01878).",
    )
    update_every: int = Field(
        default=4, ge=1, description="Steps between two updates of the masks while sparsity rises."
    )
    ignore: tuple[str, ...] = Field(
        default=(), description="Layers left dense, by parameter name, e.g. `stem.0.weight`."
    )
    train: Training = Field(
        default=Training(epochs=5), description="The fine-tuning in which sparsity rises and the network recovers."
    )

    @field_validator("pattern")
    @classmethod
    def _pattern_is_known(cls, pattern: str) -> str:
        parse_pattern(pattern)
        return pattern

    @model_validator(mode="after")
    def _sparsity_fits(self) -> PruneMagnitude:
        pattern = parse_pattern(self.pattern)
        if not isinstance(pattern, NofM):
            if self.sparsity is None:
                raise ValueError("sparsity: this key is required and missing")
            return self
        if self.sparsity is not None and abs(self.sparsity - pattern.zeros) > 1e-6:
            raise ValueError(
                f"sparsity: pattern = \"{self.pattern}\" makes {pattern.zeros:g} of the weights zero, never {self.sparsity:g}; leave 'sparsity' out, or take other numbers"
            )
        if self.scope == "model":
            raise ValueError(
                f"scope: pattern = \"{self.pattern}\" takes the same share of each layer; leave 'scope' out"
            )
        return self

    @property
    def needs_training_samples(self) -> bool:
        """Always: sparsity rises while training."""
        return True

    @property
    def order_matters(self) -> str:
        """Why no later step may move channels; '' where one may."""
        return "" if self.pattern == UNSTRUCTURED else f'moving channels would break pattern = "{self.pattern}"'

    def apply(self, model: Model, context: Context) -> Model:
        """The model with masks on its weights. Raises RecipeError for an ignored layer that does not exist, or where no layer can have the pattern."""
        from edgepack.network.channels.state import masks_of

        weights = {name for name, _ in model.network.named_parameters()}
        for name in self.ignore:
            if name not in weights:
                raise RecipeError(
                    f"compress.prune_magnitude.ignore: the model has no parameter '{name}'{did_you_mean(name, weights)}"
                )
        pattern = parse_pattern(self.pattern)
        left_alone: dict[str, str] = {}
        update = self._anywhere(model) if pattern is None else self._patterned(model, pattern, left_alone)

        def raise_sparsity(step: int, total: int) -> None:
            ramp_steps = max(1, int(total * self.ramp))
            if step <= ramp_steps and (step % self.update_every == 0 or step == ramp_steps):
                update(1 - (1 - min(1.0, step / ramp_steps)) ** 3)

        trained = fine_tune(
            model, self.train, context, what=self._what(), before_step=raise_sparsity, best_after=self.ramp
        )
        masks = masks_of(model.network).values()
        facts = {} if pattern is None else {"pattern": self.pattern, "left_alone": left_alone}
        return model.with_step(
            method="prune_magnitude",
            zeros=sum(int((~mask).sum()) for mask in masks),
            weights=sum(mask.numel() for mask in masks),
            steps=trained.steps,
            best_step=trained.best_step,
            **facts,
        )

    def _what(self) -> str:
        pattern = parse_pattern(self.pattern)
        if isinstance(pattern, NofM):
            return f"Pruning to {pattern.kept} of each {pattern.group} weights"
        blocks = "" if pattern is None else f" in blocks of {self.pattern}"
        return f"Pruning to {self.sparsity:.0%} zeros{blocks}"

    def _anywhere(self, model: Model) -> Callable[[float], None]:
        """Put masks on the weights; the answer sets them to a part of the sparsity."""
        import nncf
        from nncf.torch.function_hook.pruning.magnitude.algo import update_pruning_ratio

        assert self.sparsity is not None
        mode = (
            nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL
            if self.scope == "layer"
            else nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL
        )
        network = _masked(model, mode, self.ignore)
        whole = self.sparsity
        return lambda part: update_pruning_ratio(network, mode, whole * part)

    def _patterned(self, model: Model, pattern: Pattern, left_alone: dict[str, str]) -> Callable[[float], None]:
        """Put masks on the weights that fit the pattern; the answer gives it to a part of their groups or blocks. `left_alone` is told of the others."""
        import nncf

        from edgepack.network.channels.state import masks_of
        from edgepack.network.grid import trace
        from edgepack.network.patterns import masks_at

        ops = trace(model.build().eval(), model.example())
        kinds = {op.weight: op.kind for op in ops.values() if op.weight is not None}
        left_alone |= _misfits(model, pattern, kinds, self.ignore)
        names = [name for name in kinds if name not in left_alone]
        if not names:
            told = "; ".join(f"'{name}': {because}" for name, because in left_alone.items()) or "it has no weights"
            raise RecipeError(
                f'compress.prune_magnitude.pattern: no layer of this model can have "{self.pattern}" ({told}); take another, or "unstructured"'
            )
        network = _masked(model, nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL, tuple(left_alone))
        weights = {name: network.get_parameter(name) for name in names}
        whole = 1.0 if isinstance(pattern, NofM) else self.sparsity or 0.0

        def update(part: float) -> None:
            masks = masks_of(network)
            for name, mask in masks_at(weights, kinds, pattern, whole * part, across=self.scope == "model").items():
                masks[name].copy_(mask)

        return update


def _masked(model: Model, mode: object, ignored: tuple[str, ...]) -> nn.Module:
    """The model's network, with NNCF's masks on all weights but the ignored ones."""
    import nncf

    example = model.example()
    network: nn.Module = nncf.prune(
        model.network,
        mode=mode,
        ratio=0.0,
        ignored_scope=nncf.IgnoredScope(names=list(ignored)) if ignored else None,
        examples_inputs=example if len(example) > 1 else example[0],
    )
    return network


def _misfits(model: Model, pattern: Pattern, kinds: dict[str, str], ignore: tuple[str, ...]) -> dict[str, str]:
    """Why each weight that can't have the pattern, or shall not, is left alone."""
    from edgepack.network.patterns import why_not

    found = {}
    for name, kind in kinds.items():
        layer = model.network.get_submodule(name.rpartition(".")[0])
        shape = tuple(model.network.get_parameter(name).shape)
        groups = getattr(layer, "groups", 1)
        if because := "the recipe says so" if name in ignore else why_not(pattern, shape, kind, groups=groups):
            found[name] = because
    return found
