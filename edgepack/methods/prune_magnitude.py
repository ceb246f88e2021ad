"""Unstructured magnitude pruning with NNCF: the smallest weights become zero, gradually, while the others learn to do without.

The zeros stay: the mask remains on the weights through quantization-aware training and is written into the exported codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.core.section import Section
from edgepack.methods.protocol import Context, Phase
from edgepack.network.training import Training

if TYPE_CHECKING:
    from edgepack.network.model import Model


class PruneMagnitude(Section):
    """Zero the smallest weights of each layer; training repairs the rest."""

    phase: ClassVar[Phase] = Phase.WEIGHTS
    sparsity: float = Field(gt=0, lt=1, description="Share of the weights that become zero.")
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

    @property
    def needs_training_samples(self) -> bool:
        """Always: sparsity rises while training."""
        return True

    def apply(self, model: Model, context: Context) -> Model:
        """The model with masks on its weights. Raises RecipeError for an ignored layer that does not exist."""
        import nncf
        from nncf.torch.function_hook.pruning.magnitude.algo import get_pruned_modules, update_pruning_ratio

        from edgepack.network.model import float_network
        from edgepack.network.train import Trainer

        assert context.train is not None
        weights = {name for name, _ in model.network.named_parameters()}
        for name in self.ignore:
            if name not in weights:
                raise RecipeError(
                    f"compress.prune_magnitude.ignore: the model has no parameter '{name}'{did_you_mean(name, weights)}"
                )
        mode = (
            nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL
            if self.scope == "layer"
            else nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL
        )
        example = model.example()
        scope = nncf.IgnoredScope(names=list(self.ignore)) if self.ignore else None
        network = nncf.prune(
            model.network,
            mode=mode,
            ratio=0.0,
            ignored_scope=scope,
            examples_inputs=example if len(example) > 1 else example[0],
        )

        def raise_sparsity(step: int, total: int) -> None:
            ramp_steps = max(1, int(total * self.ramp))
            if step <= ramp_steps and (step % self.update_every == 0 or step == ramp_steps):
                left = (1 - min(1.0, step / ramp_steps)) ** 3
                update_pruning_ratio(network, mode, self.sparsity * (1 - left))

        trainer = Trainer(
            model,
            float_network(context.original),
            context.train,
            self.train,
            checkpoint=context.workspace / "checkpoint.pt",
            key=context.key,
            seed=context.seed,
            before_step=raise_sparsity,
            best_after=self.ramp,
        )
        trained = trainer.run(context.progress, what=f"Pruning to {self.sparsity:.0%} zeros")
        masks = [hook.binary_mask for hook in get_pruned_modules(network).values()]
        zeros = sum(int((~mask).sum()) for mask in masks)
        total = sum(mask.numel() for mask in masks)
        return model.with_step(
            method="prune_magnitude", zeros=zeros, weights=total, steps=trained.steps, best_step=trained.best_step
        )
