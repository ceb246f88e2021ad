"""Weights of 8 or 4 bits beside float activations, for networks whose other operations have no integer form: transformers.

NNCF's `compress_weights` rounds, each output channel or each group of weights with a scale of its own; `gptq` then chooses other codes on the same grid. `awq` first gives
layers' inputs scales with which rounding costs less. Nothing is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgepack.core.chatter import chatter_to
from edgepack.core.errors import RecipeError, UnsupportedError, did_you_mean
from edgepack.core.section import Section
from edgepack.methods.protocol import Context, Phase

if TYPE_CHECKING:
    from edgepack.network.grid import Op
    from edgepack.network.model import Model
    from edgepack.network.weight_grids import WeightGrid

_BATCH = 32  # samples of a forward: GPTQ holds what is alive at one layer of all of them


class CompressWeights(Section):
    """int8 or int4 weights; activations stay float."""

    phase: ClassVar[Phase] = Phase.GRID
    # What can write such weights; LiteRT's kernels would quantize the activations on the way (dynamic range), which nobody has tried or trained.
    exporters: ClassVar[tuple[str, ...]] = ("onnx", "openvino")
    bits: Literal[8, 4] = Field(default=8, description="Bits of a weight.")
    symmetric: bool = Field(
        default=True,
        description="Whether zero points are 0; without, each scale has one, and the grid fits its weights closer.",
    )
    group_size: int | None = Field(
        default=None,
        ge=8,
        description="With `bits = 4`: how many weights of an output channel share a scale; must divide the layer's inputs. Default: one scale for each output channel.",
    )
    int8_edges: bool = Field(
        default=True,
        description="With `bits = 4`: whether embedding tables and the last layer keep 8 bits, the rest of the model being less sensitive.",
    )
    scale_estimation: bool = Field(
        default=False,
        description="With `bits = 4`: whether scales are chosen on the calibration samples so that the layers' outputs change least.",
    )
    gptq: bool = Field(
        default=False,
        description="Whether the weights of linear layers that are not yet rounded make up for the error of those that are, on the calibration samples.",
    )
    awq: bool = Field(
        default=False,
        description="With `bits = 4`: whether weights of inputs that are large on the calibration samples are scaled up before they are rounded, where a norm or layer before can be scaled down for it.",
    )
    float_layers: tuple[str, ...] = Field(
        default=(),
        description="Layers that stay float, by module name, such as `blocks.0.attention`; a module stands for all inside it.",
    )

    @model_validator(mode="after")
    def _belongs_to_four_bits(self) -> CompressWeights:
        if self.bits == 8:
            for name, given in (
                ("group_size", self.group_size is not None),
                ("scale_estimation", self.scale_estimation),
                ("int8_edges", not self.int8_edges),
                ("awq", self.awq),
            ):
                if given:
                    raise ValueError(f"'{name}' belongs to bits = 4; leave it out")
        return self

    @property
    def needs_training_samples(self) -> bool:
        """Nothing is trained."""
        return False

    def apply(self, model: Model, context: Context) -> Model:
        """The model with rounded weights and what a file needs to know of them. Raises UnsupportedError for what NNCF can't take."""
        from dataclasses import replace

        from edgepack.network.grid import trace
        from edgepack.network.model import float_network

        if context.base is not None:
            raise RecipeError("compress_weights can't keep the grid of 'update_of'; leave one of them out")
        ops = trace(model.build().eval(), model.example())
        ignored = _operations(ops, self.float_layers)
        network, facts = float_network(model), dict[str, Any]()
        if self.awq:
            facts["awq_scales"] = self._scaled(network, model, context, ignored)
            model = replace(model, network=network)
        grids = self._grids(model, context, ignored)
        grids = self._compensated(network, model, grids, context) if self.gptq else grids
        _round(network, grids)
        size_bytes, before = (sum(each) for each in zip(*_sizes(grids), strict=True))
        context.progress.note(f"{len(grids)} weights take {size_bytes:,} bytes instead of {before:,}")
        return replace(model, network=network, weight_grids=grids).with_step(
            method="compress_weights",
            bits=self.bits,
            weights={name: grid.bits for name, grid in sorted(grids.items())},
            weight_bytes=size_bytes,
            calibration_samples=len(context.calibration) if self.scale_estimation or self.gptq or self.awq else 0,
            **facts,
        )

    def _grids(self, model: Model, context: Context, ignored: list[str]) -> dict[str, WeightGrid]:
        """The grids that NNCF makes. Raises UnsupportedError where it makes none."""
        from edgepack.network.weight_grids import grids_of

        shapes = {name: tuple(value.shape) for name, value in model.network.named_parameters()}
        grids = grids_of(self._compressed(model, context, ignored), shapes)
        if not grids:
            raise UnsupportedError(
                "compress_weights: NNCF finds no weight to compress; remove the step, or float_layers"
            )
        return grids

    def _scaled(self, network: Any, model: Model, context: Context, ignored: list[str]) -> dict[str, Any]:
        """Facts of the scales that AWQ gives the network's linear layers; says what they leave of the error, and which layers have none. Raises UnsupportedError where none can."""
        from edgepack.network.awq import scale_inputs
        from edgepack.network.model import as_tensors
        from edgepack.network.tracing import graph_of

        kinds = self.model_copy(update={"scale_estimation": False})._grids(model, context, ignored)
        graph = graph_of(network, model, dynamic_batch=False)
        context.progress.start("Scaling weights by their inputs (awq)")
        made = scale_inputs(network, graph, kinds, (as_tensors(model, one) for one in context.calibration.batches(1)))
        context.progress.done()
        left = "; ".join(f"{name} ({why})" for name, why in made.left.items())
        if not made.exponents:
            raise UnsupportedError(
                f"compress_weights: awq finds no linear layer whose inputs it could scale: {left or 'none is compressed'}; leave awq out"
            )
        shares = made.shares.values()
        context.progress.note(
            f"awq: scales for the inputs of {len(shares)} of {len(shares) + len(made.left)} linear layers; the squared error of their outputs is {min(shares):.2f} to {max(shares):.2f} of what rounding alone leaves"
            + (f"; without: {left}" if left else "")
        )
        return {"exponents": dict(made.exponents), "error_shares": dict(made.shares), "without": dict(made.left)}

    def _compensated(self, network: Any, model: Model, grids: dict[str, WeightGrid], context: Context) -> Any:
        """The grids with the codes that GPTQ chooses; says what they leave of the error, and which weights have none. Raises UnsupportedError where no weight has."""
        from edgepack.network.gptq import compensate
        from edgepack.network.model import as_tensors

        context.progress.start("Choosing codes that make up for each other (gptq)")
        made = compensate(network, grids, [as_tensors(model, batch) for batch in context.calibration.batches(_BATCH)])
        context.progress.done()
        if not made.shares:
            raise UnsupportedError(
                "compress_weights: gptq finds no linear layer (torch.nn.Linear, called once in a forward, with a weight of its own) among the compressed weights; leave gptq out"
            )
        shares, plain = made.shares.values(), sorted(grids.keys() - made.shares.keys())
        context.progress.note(
            f"gptq: the squared error of {len(shares)} layers' outputs is {min(shares):.2f} to {max(shares):.2f} of what rounding alone leaves"
            + (f"; rounded alone: {', '.join(plain)}" if plain else "")
        )
        return made.grids

    def _compressed(self, model: Model, context: Context, ignored: list[str]) -> Any:
        """NNCF's network, with packed weights."""
        import copy

        import nncf
        import torch

        from edgepack.network.model import as_tensors

        samples = context.calibration if self.scale_estimation else context.calibration.take(slice(0, 1))
        batches = [as_tensors(model, batch) for batch in samples.batches(1)]
        modes = nncf.CompressWeightsMode
        mode = {
            (8, True): modes.INT8_SYM,
            (8, False): modes.INT8_ASYM,
            (4, True): modes.INT4_SYM,
            (4, False): modes.INT4_ASYM,
        }[self.bits, self.symmetric]
        options: dict[str, Any] = {}
        if self.bits == 4:
            options = {"group_size": self.group_size or -1, "all_layers": not self.int8_edges, "ratio": 1.0}
            options |= {"scale_estimation": True, "subset_size": len(batches)} if self.scale_estimation else {}
        context.progress.start("Compressing weights")
        try:
            with chatter_to(context.workspace / "nncf.log"), torch.no_grad():
                made = nncf.compress_weights(
                    copy.deepcopy(model.network).eval(),
                    mode=mode,
                    dataset=nncf.Dataset([batch if len(batch) > 1 else batch[0] for batch in batches]),
                    ignored_scope=nncf.IgnoredScope(names=ignored),
                    **options,
                )
        except (nncf.NNCFError, RuntimeError, ValueError) as exc:
            raise UnsupportedError(f"compress_weights: NNCF can't compress this model's weights: {exc}") from exc
        context.progress.done()
        return made


def _operations(ops: dict[str, Op], layers: tuple[str, ...]) -> list[str]:
    """The operations whose weight or table belongs to one of some modules. Raises RecipeError for a module that has none."""
    owners = {name: (op.weight or op.table or "").rpartition(".")[0] for name, op in ops.items()}
    known = {
        ".".join(owner.split(".")[: n + 1]) for owner in owners.values() if owner for n in range(owner.count(".") + 1)
    }
    for layer in layers:
        if layer not in known:
            raise RecipeError(
                f"compress_weights.float_layers: the model has no layer '{layer}' with weights{did_you_mean(layer, known)}"
            )
    return [
        name
        for name, owner in owners.items()
        if any(owner == layer or owner.startswith(f"{layer}.") for layer in layers)
    ]


def _round(network: Any, grids: Any) -> None:
    """Give each weight the values that its grid can write."""
    import torch

    with torch.no_grad():
        for name, grid in grids.items():
            network.get_parameter(name).copy_(torch.from_numpy(grid.values()))


def _sizes(grids: Any) -> list[tuple[int, int]]:
    return [(grid.size_bytes, 4 * grid.codes.size) for grid in grids.values()]
