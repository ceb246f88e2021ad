"""Channel pruning: whole channels go away, so the exported model is smaller and faster, not sparser.

Which channels hang together is torch-pruning's dependency graph (Fang et al. 2023, arXiv:2301.12900). They go in rounds; after each one the layers' weights are
fitted to the outputs that they had before (network/channels/refit.py), and the network learns from the original what it has lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgepack.core.section import Section
from edgepack.methods.protocol import Context, Phase
from edgepack.network.training import Training

if TYPE_CHECKING:
    import torch

    from edgepack.network.channels.by_latency import Found, Watch
    from edgepack.network.channels.groups import ChannelGroup, Places
    from edgepack.network.channels.narrowing import Limits, Measure, Narrowing, Scope, Scores
    from edgepack.network.model import Model

KIND = "prune"
_CHECKED_SAMPLES = 2
_MEASURED_BATCHES = 16
_JUDGING_BATCHES = 4
_FITTED_SAMPLES_MAX = 1024
_FITTED_VALUES_MAX = 60_000_000  # of their inputs
_ALIVE_VALUES_MAX = (
    500_000_000  # of their widest layer: what is alive of them at one layer, in two networks, is in memory at once
)
_FITTING_BATCH = 32


class PruneChannels(Section):
    """Remove the least important channels; training repairs the rest."""

    phase: ClassVar[Phase] = Phase.STRUCTURE
    sparsity: float = Field(
        gt=0, lt=1, description="Share of the multiply-accumulates, of the parameters or of the latency that goes away."
    )
    of: Literal["macs", "parameters", "latency"] = Field(
        default="macs",
        description="What `sparsity` is a share of: `macs`, multiply-accumulates of convolutions and linear layers in one inference; `parameters`; or `latency`, "
        "measured while building: of the float model in the target's runtime on this machine, one thread (of several targets, the first).",
    )
    importance: Literal["magnitude", "taylor", "bn_scale"] = Field(
        default="taylor",
        description="What tells which channels matter: `taylor`, what the loss would feel without them, to first order; the `magnitude` of their weights; or "
        "`bn_scale`, the factor of their batch norm (layers without one are left alone).",
    )
    scope: Literal["cost", "model", "layer"] = Field(
        default="cost",
        description="`cost`: the channels of all layers that matter least for what they cost. `model`: those that matter least, relative to their layer's mean. "
        "`layer`: the same share of each layer.",
    )
    refit: bool = Field(
        default=True,
        description="Whether the weights of the layers that are left are fitted by least squares to the outputs that they had, before the training.",
    )
    rounds: int = Field(
        default=4, ge=1, description="In how many steps they go, with training after each; half of it after the last."
    )
    keep_min: float = Field(default=0.125, gt=0, le=1, description="Smallest share of a layer's channels that stays.")
    round_to: int = Field(
        default=1, ge=1, description="Channels left in a layer are a multiple of this, where it has as many."
    )
    ignore: tuple[str, ...] = Field(
        default=(), description="Layers that keep their channels, by module name, e.g. `features.0`."
    )
    train: Training = Field(default=Training(epochs=10), description="The fine-tuning, over all rounds.")

    @property
    def needs_latency(self) -> bool:
        """Whether narrower networks are to be timed."""
        return self.of == "latency"

    @property
    def needs_training_samples(self) -> bool:
        """Always: what is left must learn."""
        return True

    def apply(self, model: Model, context: Context) -> Model:
        """The smaller model. Raises RecipeError for an ignored layer that doesn't exist, or a share that can't be reached."""
        from edgepack.network.channels.by_latency import latency_facts
        from edgepack.network.channels.groups import named_layers
        from edgepack.network.channels.narrowing import Narrowing
        from edgepack.network.model import as_tensors

        named_layers(model.network, self.ignore, where="compress.prune_channels.ignore")
        context.progress.start("Finding channels that may go")
        few = as_tensors(model, context.calibration.take(slice(0, _CHECKED_SAMPLES)))
        work = Narrowing(model, few, ignore=self.ignore)
        before = _costs(work)
        context.progress.done(f"{len(work.kept)} groups of layers, {len(work.left_alone)} left alone")
        watch = self._watch(context)
        goal = self._goal(work, context, watch)  # a share that can't be reached is refused before any training
        rounds = self.rounds if context.base is None else 1
        for number in range(1, rounds + 1):
            share = goal.share * number / rounds
            gone = self._choose(work, context, share=share) if context.base is None else _gone_in_base(work, context)
            self._remove(work, gone, context)
            self._train(work, context, number, rounds)
        kept = {name: channels.tolist() for name, channels in work.kept.items()}
        timed = {} if watch is None else {"latency": latency_facts(work.model, watch, goal)}
        edit = {"kind": KIND, "method": "prune_channels", "channels": kept}
        return replace(work.model, edits=(*model.edits, edit)).with_step(
            method="prune_channels",
            before=before,
            after=_costs(work),
            left_alone=work.left_alone,
            **timed,
        )

    @property
    def _counted(self) -> Measure:
        """What is counted while channels are chosen."""
        return "macs" if self.of == "latency" else self.of

    @property
    def _compared(self) -> Scope:
        """Among which channels the least important ones are found."""
        return "layer" if self.scope == "layer" else "model"

    def _goal(self, work: Narrowing, context: Context, watch: Watch | None) -> Found:
        """The share of what is counted that goes away in the end. Raises RecipeError for one that can't be reached."""
        from edgepack.network.channels.by_latency import Found, share_of_macs

        if watch is None:
            self._choose(work, context, share=self.sparsity)
            return Found(share=self.sparsity, ratio=1 - self.sparsity, probes=0)
        scores = self._scores(work, context)
        whole = _whole(work, context, "macs")
        most = 1 - work.least(scores, measure="macs", scope=self._compared, limits=self._limits()) / whole
        context.progress.start("Timing narrower networks")
        found = share_of_macs(
            work,
            watch,
            lambda share: self._choose(work, context, share=share, scores=scores),
            whole=whole,
            most=most,
            wanted=1 - self.sparsity,
        )
        context.progress.done(f"{found.ratio:.2f} of the latency without {found.share:.0%} of the macs")
        return found

    def _watch(self, context: Context) -> Watch | None:
        """What times narrower networks; None where the share is not of the latency, or another build has chosen the channels."""
        from edgepack.network.channels.by_latency import Watch

        if self.of != "latency" or context.base is not None:
            return None
        assert context.latency is not None
        return Watch(measure=context.latency, student=context.student)

    def _limits(self) -> Limits:
        from edgepack.network.channels.narrowing import Limits

        return Limits(keep_min=self.keep_min, round_to=self.round_to)

    def _choose(
        self, work: Narrowing, context: Context, *, share: float, scores: Scores | None = None
    ) -> list[tuple[ChannelGroup, Places]]:
        """The channels that must go for this share of the whole original to have gone."""
        whole = _whole(work, context, self._counted)
        return work.choose(
            scores if scores is not None else self._scores(work, context),
            at_most=round(whole * (1 - share), 3),  # a count, whatever floats make of it
            measure=self._counted,
            scope=self._compared,
            limits=self._limits(),
        )

    def _scores(self, work: Narrowing, context: Context) -> Scores:
        """How much each channel of each group matters; groups of which that isn't known are left alone."""
        from edgepack.network.channels.importance import importance_of, taylor_gradients

        assert context.train is not None
        gradients: dict[str, torch.Tensor] = {}
        if self.importance == "taylor":
            gradients = taylor_gradients(
                work.model.network,
                context.teacher(self.train),
                self._batches(work.model, context),
            )
        state = work.model.network.state_dict()
        scores = {}
        for group in work.groups:
            found = importance_of(self.importance, group, state, gradients)
            if found is None:
                work.left_alone[group.name] = f"{self.importance} knows nothing of its channels"
            elif self.scope == "cost":
                scores[group.name] = found / work.price(group, self._counted)
            else:
                scores[group.name] = found / max(float(found.mean()), 1e-30)
        return scores

    def _remove(self, work: Narrowing, gone: list[tuple[ChannelGroup, Places]], context: Context) -> None:
        """Take these channels out, and let what is left make up for them as far as it can without training."""
        from edgepack.network.channels.recover import recover
        from edgepack.network.channels.refit import rows_left
        from edgepack.network.model import as_tensors

        before = work.model.network
        fitting, judging = self._fitting(work, context)
        work.remove(gone)
        if not self.refit or not gone or not len(fitting):
            self._measure_norms(work, context)
            return
        assert context.train is not None
        context.progress.start("Fitting the layers that are left")
        batches = [as_tensors(work.model, context.train.take(np.sort(some))) for some in fitting]
        found = recover(work.model, before, rows_left(before, gone), batches, context.train.take(np.sort(judging)))
        losses = f"{found.distance_measured:.4g} → {found.distance_fitted:.4g}"
        context.progress.done(
            f"{len(found.fitted)} layers, loss {losses}"
            if found.fitted
            else f"no gain: {losses}; only batch norms' statistics are new"
        )

    def _fitting(self, work: Narrowing, context: Context) -> tuple[list[NDArray[np.intp]], NDArray[np.intp]]:
        """Batches of samples that layers are fitted to, as many as there are and memory has room for, and others that judge the fit."""
        from edgepack.network.channels.lockstep import widest

        order = _order(context)
        judging = max(1, min(_JUDGING_BATCHES * self.train.batch_size, len(order) // 4))
        values = max(math.prod(spec.shape[1:]) for spec in context.original.inputs)
        alive = widest(work.model.network, work.model.example())
        count = max(_FITTING_BATCH, min(_FITTED_VALUES_MAX // values, _ALIVE_VALUES_MAX // alive))
        count = min(_FITTED_SAMPLES_MAX, count)
        chosen, judges = order[:-judging][:count], order[-judging:]
        return [chosen[start : start + _FITTING_BATCH] for start in range(0, len(chosen), _FITTING_BATCH)], judges

    def _measure_norms(self, work: Narrowing, context: Context) -> None:
        from edgepack.network.channels.norms import measure_anew

        measure_anew(work.model.network, self._batches(work.model, context))

    def _batches(self, model: Model, context: Context) -> Iterator[tuple[torch.Tensor, ...]]:
        """Some batches of training samples, the same ones every time."""
        from edgepack.network.model import as_tensors

        assert context.train is not None
        size, order = self.train.batch_size, _order(context)
        for start in range(0, min(len(order), _MEASURED_BATCHES * size), size):
            yield as_tensors(model, context.train.take(np.sort(order[start : start + size])))

    def _train(self, work: Narrowing, context: Context, number: int, rounds: int) -> None:
        from edgepack.network.train import Trainer, total_steps

        assert context.train is not None
        whole = total_steps(self.train, len(context.train))
        last = whole if rounds == 1 else whole - whole // 2
        steps = last if number == rounds else (whole - last) // (rounds - 1)
        if steps < 1:
            return
        trainer = Trainer(
            work.model,
            context.teacher(self.train),
            context.train,
            self.train.model_copy(update={"epochs": None, "steps": steps}),
            checkpoint=context.workspace / f"round-{number}.pt",
            key=f"{context.key} round {number}",
            seed=context.seed + number,
            learns_norms=True,
        )
        share = 1 - work.cost(self._counted) / _whole(work, context, self._counted)
        trainer.run(context.progress, what=f"Training without {share:.0%} of the {self._counted}")


def _costs(work: Narrowing) -> dict[str, int]:
    return {"macs": work.cost("macs"), "parameters": work.cost("parameters")}


def _whole(work: Narrowing, context: Context, measure: Measure) -> int:
    """What the network that shares are shares of costs."""
    from edgepack.network.model import float_network

    return work.cost(measure, float_network(context.dense).state_dict())


def _order(context: Context) -> NDArray[np.intp]:
    """Training samples in a random order, always the same: the first ones measure and fit, the last ones judge."""
    assert context.train is not None
    return np.random.default_rng([context.seed, 13]).permutation(len(context.train))


def _gone_in_base(work: Narrowing, context: Context) -> list[tuple[ChannelGroup, Places]]:
    """The channels that the older model of an update doesn't have."""
    assert context.base is not None
    return work.without(next((edit["channels"] for edit in context.base.edits if edit["kind"] == KIND), {}))
