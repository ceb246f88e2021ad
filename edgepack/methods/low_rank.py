"""Low rank: a layer becomes a product of smaller ones, so the exported model has fewer weights and fewer multiplications.

Linear layers and 1×1 convolutions by an SVD, larger kernels by Tucker-2 (Kim et al. 2016, arXiv:1511.06530); fine-tuning repairs what the ranks left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.core.section import Section
from edgepack.methods.fine_tune import fine_tune
from edgepack.methods.protocol import Context, Phase
from edgepack.network.training import Training

if TYPE_CHECKING:
    import torch

    from edgepack.network.low_rank.factoring import Factoring
    from edgepack.network.low_rank.spectra import Spectrum
    from edgepack.network.model import Model
    from edgepack.network.train import Trained

KIND = "factor"
_CHECKED_SAMPLES = 2
_MEASURED_BATCHES = 16
_Rank = Annotated[int, Field(ge=1)]


class LowRank(Section):
    """Make layers products of smaller ones; training repairs the rest."""

    phase: ClassVar[Phase] = Phase.FACTORS
    energy: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the sum of squared singular values that every layer keeps; ranks follow from it. Begin with 0.9.",
    )
    keep: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Instead of `energy`: the share of the model's multiply-accumulates (or parameters, see `of`) that is left, with the same energy in every layer.",
    )
    ranks: dict[str, _Rank] | None = Field(
        default=None,
        description='Instead of `energy`: the rank of each layer by module name, e.g. `{ "classifier.0" = 16 }`; other layers stay as they are.',
    )
    of: Literal["macs", "parameters"] = Field(
        default="macs",
        description="What `keep` is a share of, and what must get less in every layer: `macs`, multiply-accumulates of one inference, or `parameters`.",
    )
    layers: tuple[str, ...] = Field(
        default=(), description="The only layers that may become products, by module name. Default: all."
    )
    ignore: tuple[str, ...] = Field(
        default=(), description="Layers left as they are, by module name, e.g. `features.0`."
    )
    round_to: int = Field(
        default=1, ge=1, description="Ranks are a multiple of this, where a layer has as many: 4 or 8 suits kernels."
    )
    train: Training = Field(default=Training(epochs=10), description="The fine-tuning.")

    @model_validator(mode="after")
    def _one_choice(self) -> LowRank:
        given = [name for name in ("energy", "keep", "ranks") if getattr(self, name) is not None]
        if len(given) != 1:
            told = " and ".join(f"'{name}'" for name in given) or "none"
            raise ValueError(f"give one of 'energy', 'keep' and 'ranks', not {told}")
        if self.ranks is not None and (self.layers or self.ignore):
            raise ValueError("'ranks' names the layers itself; leave 'layers' and 'ignore' out")
        return self

    @property
    def needs_training_samples(self) -> bool:
        """Always: what is left must learn."""
        return True

    def apply(self, model: Model, context: Context) -> Model:
        """The model with factors. Raises RecipeError for a layer that doesn't exist, a share that can't be reached, or where nothing would get smaller."""
        from edgepack.network.low_rank.factoring import Factoring
        from edgepack.network.model import as_tensors

        self._refuse_unknown_layers(model)
        context.progress.start("Choosing ranks")
        few = as_tensors(model, context.calibration.take(slice(0, _CHECKED_SAMPLES)))
        work = Factoring(model, few, only=self.ranks or self.layers, ignore=self.ignore)
        energy, ranks = self._chosen(work, context)
        small = work.result(ranks)
        before, after = _costs(work), _costs(work, small)
        context.progress.done(
            f"{len(ranks)} layers become products, {len(work.left_alone)} stay; {after[self.of] / before[self.of]:.0%} of the {self.of}"
        )
        trained = self._train(small, context, after[self.of] / before[self.of])
        told = {name: list(own) for name, own in ranks.items()}
        edit = {"kind": KIND, "method": "low_rank", "ranks": told}
        facts = {} if energy is None else {"energy": energy}
        return replace(small, edits=(*model.edits, edit)).with_step(
            method="low_rank",
            before=before,
            after=after,
            ranks=told,
            left_alone=work.left_alone,
            **facts,
            steps=trained.steps,
            best_step=trained.best_step,
        )

    def _refuse_unknown_layers(self, model: Model) -> None:
        from edgepack.network.low_rank.factoring import weighted_layers

        known = [name for name, _ in weighted_layers(model.network)]
        for option, names in (("layers", self.layers), ("ignore", self.ignore), ("ranks", self.ranks or ())):
            for name in names:
                if name not in known:
                    raise RecipeError(
                        f"compress.low_rank.{option}: the model has no convolution or linear layer '{name}'{did_you_mean(name, known)}"
                    )

    def _chosen(self, work: Factoring, context: Context) -> tuple[float | None, dict[str, tuple[int, ...]]]:
        """The energy that layers keep, where that was asked, and the ranks. Layers that wouldn't get smaller are left alone."""
        from edgepack.network.low_rank.spectra import energy_within

        if context.base is not None:
            return None, _ranks_of_base(work, context.base.edits)
        if self.ranks is not None:
            return None, self._as_given(work)
        energy = self.energy
        if self.keep is not None:
            whole = work.cost(self.of)
            spectra = list(work.spectra.values())
            rest = whole - sum(one.cost(None, self.of) for one in spectra)
            energy = energy_within(spectra, self.keep * whole - rest, self.of, round_to=self.round_to)
            if energy is None:
                least = rest + sum(
                    one.cost(one.ranks_for(0.0, self.of, round_to=self.round_to), self.of) for one in spectra
                )
                raise RecipeError(
                    f"compress.low_rank.keep: at the lowest ranks {least / whole:.1%} of the {self.of} are left, {self.keep:.1%} should; "
                    f"raise keep, or allow more layers (left alone: {', '.join(work.left_alone) or 'none'})"
                )
        assert energy is not None
        wanted = {name: one.ranks_for(energy, self.of, round_to=self.round_to) for name, one in work.spectra.items()}
        return energy, _smaller(wanted, work, f"at an energy of {energy:.6g}; lower it")

    def _as_given(self, work: Factoring) -> dict[str, tuple[int, ...]]:
        assert self.ranks is not None
        wanted: dict[str, tuple[int, ...] | None] = {}
        for name, rank in self.ranks.items():
            if name in work.left_alone:
                raise RecipeError(f"compress.low_rank.ranks: '{name}' can't become a product: {work.left_alone[name]}")
            one = work.spectra[name]
            if rank > min(one.inward, one.outward):
                raise RecipeError(
                    f"compress.low_rank.ranks: '{name}' has {one.inward} inputs and {one.outward} outputs: its rank can't be {rank}; "
                    f"give at most {min(one.inward, one.outward)}"
                )
            own = (rank,) if one.taps == 1 else (rank, rank)
            wanted[name] = own if one.cost(own, self.of) < one.cost(None, self.of) else None
        return _smaller(wanted, work, "at these ranks; give lower ones")

    def _train(self, model: Model, context: Context, share: float) -> Trained:
        from edgepack.network.channels.norms import measure_anew

        measure_anew(model.network, self._batches(model, context))
        what = f"Training with {share:.0%} of the {self.of}"
        return fine_tune(model, self.train, context, what=what, learns_norms=True)

    def _batches(self, model: Model, context: Context) -> Iterator[tuple[torch.Tensor, ...]]:
        """Some batches of training samples, the same ones every time."""
        from edgepack.network.model import as_tensors

        assert context.train is not None
        size, count = self.train.batch_size, len(context.train)
        order = np.random.default_rng([context.seed, 17]).permutation(count)
        for start in range(0, min(count, _MEASURED_BATCHES * size), size):
            yield as_tensors(model, context.train.take(np.sort(order[start : start + size])))


def _costs(work: Factoring, model: Model | None = None) -> dict[str, int]:
    return {"macs": work.cost("macs", model), "parameters": work.cost("parameters", model)}


def _smaller(wanted: Mapping[str, tuple[int, ...] | None], work: Factoring, when: str) -> dict[str, tuple[int, ...]]:
    """The ranks of the layers that get smaller; the others are left alone. Raises RecipeError where there is none."""
    for name, own in wanted.items():
        if own is None:
            work.left_alone[name] = "its factors would not be smaller"
    found = {name: own for name, own in wanted.items() if own is not None}
    if not found:
        raise RecipeError(
            f"compress.low_rank: no layer would get smaller {when} (left alone: {', '.join(work.left_alone) or 'none'})"
        )
    return found


def _ranks_of_base(work: Factoring, edits: Any) -> dict[str, tuple[int, ...]]:
    """The ranks that the older model of an update has."""
    told: Mapping[str, Any] = next((edit["ranks"] for edit in edits if edit["kind"] == KIND), {})
    for name in told:
        spectrum: Spectrum | None = work.spectra.get(name)
        if spectrum is None:
            raise RecipeError(
                f"update_of: another architecture: the base has factors of the layer '{name}', this model can't; "
                "name a bundle of the same model, or leave 'update_of' out"
            )
    for name in work.spectra.keys() - told.keys():
        work.left_alone[name] = "the base leaves it as it is"
    return {name: tuple(own) for name, own in told.items()}
