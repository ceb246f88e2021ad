"""Quantization with NNCF on the target's grid: post-training (PTQ), or quantization-aware training (QAT) after it.

Every tensor that the target keeps gets a grid (`network.grid.complete_grid`), so what is trained here is what the device computes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgepack.core.errors import RecipeError
from edgepack.core.section import Section
from edgepack.methods.fine_tune import fine_tune
from edgepack.methods.protocol import Context, Phase
from edgepack.network.training import Training

if TYPE_CHECKING:
    from edgepack.bundle.update_base import Base
    from edgepack.core.types import Progress, Samples
    from edgepack.network.model import Model

_ROUNDING_SAMPLES, _ROUNDING_BATCH = 128, 8


class Quantize(Section):
    """int8 activations, and int8 or int4 weights, on the target's grid."""

    phase: ClassVar[Phase] = Phase.GRID
    mode: Literal["ptq", "qat"] = Field(
        default="qat",
        description="`ptq` measures ranges on calibration samples; `qat` then trains weights and ranges together.",
    )
    bias_correction: Literal["fast", "none"] = Field(
        default="fast", description="Whether PTQ corrects biases for the shift that rounding causes."
    )
    range_estimator: Literal["minmax", "mean_minmax", "median_minmax", "histogram"] = Field(
        default="histogram",
        description="How activations' first ranges are measured: the extremes over all calibration samples, their mean or median over samples, "
        "or the range with the smallest quantization error on a histogram of the values.",
    )
    channel_alignment: bool = Field(
        default=False,
        description="Whether PTQ first moves scale between neighbouring layers so that their channels use the grid alike.",
    )
    tables_bits: Literal[8, 4] = Field(
        default=8,
        description="Bits of embedding tables: with 4, rows are rounded to 16 steps of one grid for the whole table, which QAT trains.",
    )
    weights_bits: Literal[8, 4] = Field(
        default=8,
        description="Bits of a weight; with 4, `int8_layers`, `int4_share` or `max_weight_bytes` say which weights keep 8.",
    )
    int8_layers: tuple[str, ...] = Field(
        default=(),
        description="Layers whose weights keep 8 bits, by name of the module or of the parameter; a module stands for all layers in it.",
    )
    int4_share: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="The share of all weights that gets 4 bits at least, those first that change the outputs least for what they save. "
        "Default: all but those of `int8_layers`.",
    )
    max_weight_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Instead of `int4_share`: as many weights get 4 bits, in that order, as make all weights fit into so many bytes.",
    )
    activations_bits: Literal[8, 16] = Field(
        default=8,
        description="Bits of an activation. With 16, symmetric, on targets that can (`arm64`, `android-arm64`): nearly the accuracy of float "
        "activations, at a higher latency.",
    )
    train: Training | None = Field(default=None, description="Fine-tuning of `qat`. Default: 5 epochs.")

    @model_validator(mode="after")
    def _options_belong_together(self) -> Quantize:
        if self.mode == "ptq" and self.train is not None:
            raise ValueError("'train' belongs to mode = \"qat\"; PTQ does not train")
        mixed = ("int8_layers", "int4_share", "max_weight_bytes")
        given = [name for name in mixed if getattr(self, name) not in (None, ())]
        if given and self.weights_bits == 8:
            raise ValueError(f"'{given[0]}' divides weights of 4 and of 8 bits; set weights_bits = 4, or leave it out")
        if self.int4_share is not None and self.max_weight_bytes is not None:
            raise ValueError(
                "'int4_share' and 'max_weight_bytes' are two ways to say how many weights get 4 bits; leave one of them out"
            )
        if self.activations_bits > 8 and 4 in (self.weights_bits, self.tables_bits):
            raise ValueError(
                "'activations_bits' = 16 goes with weights of 8 bits; leave it out, or leave out weights_bits and tables_bits"
            )
        estimator = self.range_estimator if "range_estimator" in self.model_fields_set else "minmax"
        if self.activations_bits > 8 and estimator != "minmax":
            raise ValueError(
                "'range_estimator' divides ranges into 256 steps; with activations_bits = 16 the extremes are taken: leave it out"
            )
        return self

    @property
    def needs_training_samples(self) -> bool:
        """QAT trains."""
        return self.mode == "qat"

    def apply(self, model: Model, context: Context) -> Model:
        """The model with quantizers. Raises UnsupportedError, naming the place, for what NNCF or the target's grid can't take."""
        from dataclasses import replace

        from edgepack.network.bias import round_biases
        from edgepack.network.grid import complete_grid, narrow_tables, trace
        from edgepack.network.int4 import round_by_inputs
        from edgepack.network.keep_levels import biases_with_levels, keep_biases, keep_levels, keep_shared
        from edgepack.network.model import as_tensors, lookups_told
        from edgepack.network.nncf_extension import ensure_extension

        if context.base is not None and self.channel_alignment:
            raise RecipeError(
                "compress.quantize.channel_alignment: moves scale between layers, and 'update_of' keeps the base's scales; leave one of them out"
            )
        if context.base is not None and self.tables_bits == 4:
            raise RecipeError(
                "compress.quantize.tables_bits: tables of 4 bits can't keep the grid of 'update_of' yet; leave one of them out"
            )
        if self.activations_bits > context.constraints.activations_bits:
            raise RecipeError(
                "compress.quantize.activations_bits: the constraints are those of 8 bits; take the target's for 16: load_target(…).numbers(activations_bits=16)"
            )
        ensure_extension(context.progress)
        ops = trace(model.build().eval(), model.example())
        biases = biases_with_levels(model.network, model.levels)
        int4, told = self._int4_weights(model, ops, context)
        with lookups_told():
            network = self._post_training(model, context)
            batches = (as_tensors(model, batch) for batch in context.calibration.batches(1))
            frozen = complete_grid(network, ops, context.constraints, batches) | keep_levels(network, ops, model.levels)
        keep_biases(network, biases)
        keep_shared(network, model.shared)
        tables = narrow_tables(network, ops, context.constraints) if self.tables_bits == 4 else frozenset()
        moments = _narrowed(model, network, ops, int4 - model.levels.keys(), context.calibration)
        model = replace(model, network=network, frozen=frozen, int4=int4 | tables)
        model, facts = (model, {}) if context.base is None else _keep_grid(model, ops, context.base, context.progress)
        if moments:
            round_by_inputs(network, ops, moments, context.progress)
        trained = {} if self.mode == "ptq" else self._train(model, context)
        facts |= {} if context.base is None else _keep_codes(model, ops, context.base)
        round_biases(model)
        return model.with_step(
            method="quantize",
            mode=self.mode,
            calibration_samples=len(context.calibration),
            **told,
            **({"int4_tables": sorted(tables)} if tables else {}),
            **trained,
            **facts,
        )

    def _int4_weights(self, model: Model, ops: Any, context: Context) -> tuple[frozenset[str], dict[str, Any]]:
        """The weights that get four bits, by parameter name, and what a lineage says of the choice."""
        from edgepack.network.mixed_precision import Wanted, choose, same_as_base, weight_bytes

        sizes = {op.weight: model.network.get_parameter(op.weight).numel() for op in ops.values() if op.weight}
        if context.base is not None:
            int4 = same_as_base(context.base.grid, sizes, weights_bits=self.weights_bits)
        elif self.weights_bits == 4:
            wanted = Wanted(int8_layers=self.int8_layers, share=self.int4_share, max_bytes=self.max_weight_bytes)
            int4 = choose(model, sizes, wanted, context.calibration, context.progress)
        else:
            int4 = frozenset()
        if not int4:
            return int4, {}
        share = sum(sizes[name] for name in int4) / sum(sizes.values())
        context.progress.note(f"{len(int4)} of {len(sizes)} layers have int4 weights, {share:.1%} of the weights")
        return int4, {
            "int4_weights": sorted(int4),
            "int4_share": round(share, 4),
            "weight_bytes": weight_bytes(sizes, int4),
        }

    def _post_training(self, model: Model, context: Context) -> Any:
        from edgepack.network.post_training import post_training

        return post_training(
            model,
            context.calibration,
            context.constraints,
            corrects_biases=self.bias_correction == "fast",
            range_estimator=self.range_estimator,
            aligns_channels=self.channel_alignment,
            log=context.workspace / "nncf.log",
            progress=context.progress,
        )

    def _train(self, model: Model, context: Context) -> dict[str, Any]:
        from edgepack.network.model import freeze

        assert context.train is not None
        freeze(model)
        options = self.train or Training(epochs=5)
        trained = fine_tune(model, options, context, what="Quantization-aware training")
        return {
            "train_samples": len(context.train),
            "steps": trained.steps,
            "best_step": trained.best_step,
            "stopped_early": trained.stopped_early,
        }


def _narrowed(model: Model, network: Any, ops: Any, names: Collection[str], samples: Samples) -> Mapping[str, Any]:
    """Give these weights quantizers of four bits. Answers the second moments of their layers' inputs, measured before that."""
    from edgepack.network.int4 import narrow_quantizers
    from edgepack.network.model import as_tensors
    from edgepack.network.second_order import second_moments

    few = samples.take(slice(0, _ROUNDING_SAMPLES)).batches(_ROUNDING_BATCH)
    moments = second_moments(network, ops, names, (as_tensors(model, batch) for batch in few))
    narrow_quantizers(network, ops, names)
    return moments


def _keep_grid(model: Model, ops: Any, base: Base, progress: Progress) -> tuple[Model, dict[str, Any]]:
    """The model on the base's grid, and what a lineage says of that."""
    from edgepack.network.keep_grid import keep_grid

    kept = keep_grid(model, ops, base.grid)
    share = kept.clipped / max(1, kept.weights)
    progress.note(
        f"the grid of {base.name} {base.version} is kept; {kept.clipped:,} of {kept.weights:,} weights ({share:.2%}) lie outside it and are cut to its ends"
    )
    facts = {"update_of": base.sha256, "clipped_weights": kept.clipped, "weights": kept.weights}
    return kept.model, facts | ({"fitted_anew": list(kept.fitted)} if kept.fitted else {})


def _keep_codes(model: Model, ops: Any, base: Base) -> dict[str, Any]:
    from edgepack.network.keep_grid import keep_codes

    return {"kept_codes": keep_codes(model, ops, base.codes, tolerance=base.tolerance)}
