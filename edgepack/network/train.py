"""The training loop that all methods share: distillation, resumable at any moment.

Every random choice of step `n` follows from (seed, n) alone, so a run that was killed and resumed ends in the same bytes
as one that was not.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from edgepack.core.errors import DataError, RecipeError, StageError
from edgepack.core.files import write_atomic
from edgepack.core.types import Progress, Samples, SampleSource
from edgepack.network.augment import augmented
from edgepack.network.channels.norms import batch_norms
from edgepack.network.grid import keep_zero_exact
from edgepack.network.losses import Features, likeness_loss, output_distance, values_loss
from edgepack.network.memory_layout import fastest_layout, laid, lay
from edgepack.network.model import Model, as_tensors, flat_outputs, is_hooked
from edgepack.network.training import Training

_CHECKPOINT_EVERY_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training did: steps run, holdout loss before and at the best checkpoint, and the step of that one."""

    steps: int
    first_loss: float
    best_loss: float
    best_step: int
    stopped_early: bool


@dataclass(slots=True)
class _Progress:
    """Everything a resumed run needs beside the network: kept in the checkpoint."""

    step: int = 0
    first_loss: float = math.inf
    best_loss: float = math.inf
    best_step: int = 0
    best_state: dict[str, torch.Tensor] | None = None
    epochs_without_gain: int = 0
    stopped_early: bool = False


class Trainer:
    """Trains `model.network` in place towards `teacher` (a float network) on `samples`.

    `before_step(step, total)` runs before each step (a pruning schedule lives there); a checkpoint can be the best one after the share
    `best_after` of the steps. `learns_norms`: batch norms work with each batch's own statistics and follow them, instead of keeping those that they
    have; `options.norms` has the last word. `checkpoint` is a file that is written at least every 20 s and at each epoch's end, and read at the start.
    """

    def __init__(
        self,
        model: Model,
        teacher: nn.Module,
        samples: SampleSource,
        options: Training,
        *,
        checkpoint: Path,
        key: str,
        seed: int,
        before_step: Callable[[int, int], None] | None = None,
        best_after: float = 0.0,
        learns_norms: bool = False,
    ) -> None:
        self.model, self.teacher, self.options = model, teacher.eval(), options
        self.checkpoint, self.key, self.seed = checkpoint, key, seed
        self.before_step = before_step
        self.is_hooked = is_hooked(model.network)
        learns = learns_norms if options.norms is None else options.norms == "learn"
        self.norms = batch_norms(model.network) if learns else []
        if options.needs_labels and samples.labels is None:
            raise DataError(
                "a loss with labels needs labelled training samples; give the provider labels, "
                "or use loss = \"distill\" without 'labels_weight'"
            )
        self.features: tuple[Features, Features] | None = None
        self.layout = torch.contiguous_format
        order = np.random.default_rng([seed, 7]).permutation(len(samples))
        held = int(len(samples) * options.holdout)
        # Positions, not copies: the training samples are the largest thing in memory.
        self.samples, self.held_out, self.trained_on = samples, np.sort(order[:held]), np.sort(order[held:])
        self.order: tuple[int, NDArray[np.intp]] | None = None  # of the epoch that is trained now
        self.steps_per_epoch = max(1, math.ceil(len(self.trained_on) / options.batch_size))
        self.total_steps = total_steps(options, len(samples))
        self.best_from_step = math.ceil(self.total_steps * best_after)
        for parameter in self.teacher.parameters():
            parameter.requires_grad = False

    def run(self, progress: Progress, *, what: str) -> Trained:
        """Train to the end and leave the best checkpoint's values in the network.

        Raises StageError when the loss is not finite, and RecipeError for a module of `features` that is not there.
        """
        self.model.network.eval()  # batch norms keep the statistics of the float model
        few = as_tensors(self.model, self.samples.take(self.trained_on[:2]))
        self.layout = fastest_layout((self.model.network, self.teacher), few)
        if not self.options.features:
            return self._run(progress, what)
        ours, theirs = zip(*self.options.feature_pairs, strict=True)
        with (
            closing(Features(self.model.network, ours, where="train.features: the network that learns")) as learner,
            closing(Features(self.teacher, theirs, where="train.features: the teacher")) as teacher,
        ):
            self.features = learner, teacher
            if self.options.features_by == "values":
                self._refuse_other_shapes()
            return self._run(progress, what)

    def _refuse_other_shapes(self) -> None:
        """Raises RecipeError where a module of `features` gives other numbers of values than the teacher's."""
        assert self.features is not None
        inputs = as_tensors(self.model, self.samples.take(self.trained_on[:1]))
        with torch.no_grad():
            self.model.network.eval()(*inputs)
            self.teacher(*inputs)
        ours, theirs = (one.take() for one in self.features)
        for names, mine, its in zip(self.options.feature_pairs, ours, theirs, strict=True):
            if mine.shape != its.shape:
                raise RecipeError(
                    f"train.features: '{names[0]}' gives {mine.shape[1]:,} values a sample, the teacher's '{names[1]}' {its.shape[1]:,}, "
                    'and features_by = "values" compares each with its own; take "likeness", or name modules that keep their channels'
                )

    def _run(self, progress: Progress, what: str) -> Trained:
        parameters = [p for p in self.model.network.parameters() if p.requires_grad and p.is_floating_point()]
        optimizer = _make_optimizer(self.options, parameters)
        state = self._resume(optimizer, progress)
        progress.start(what, total=self.total_steps)
        progress.advance(state.step)
        if state.step == 0 and self.best_from_step == 0:
            self._judge(state)
        saved_at = time.monotonic()
        while state.step < self.total_steps and not state.stopped_early:
            loss = self._one_step(state.step, optimizer)
            state.step += 1
            progress.advance(note=f"loss {loss:.4g}")
            epoch_ends = state.step % self.steps_per_epoch == 0 or state.step == self.total_steps
            if epoch_ends and state.step >= self.best_from_step:
                self._judge(state)
            if epoch_ends or time.monotonic() - saved_at > _CHECKPOINT_EVERY_S:
                self._save(optimizer, state)
                saved_at = time.monotonic()
        if state.best_state is not None:
            self.model.network.load_state_dict(state.best_state)
        lay(self.model.network, torch.contiguous_format)
        progress.done(
            f"loss on held-out samples {state.first_loss:.4g} → {state.best_loss:.4g}" if len(self.held_out) else ""
        )
        return Trained(
            steps=state.step,
            first_loss=state.first_loss,
            best_loss=state.best_loss,
            best_step=state.best_step,
            stopped_early=state.stopped_early,
        )

    def _one_step(self, step: int, optimizer: torch.optim.Optimizer) -> float:
        if self.before_step is not None:
            self.before_step(step, self.total_steps)
        factor = _schedule_factor(self.options, step, self.total_steps)
        for group in optimizer.param_groups:
            group["lr"] = self.options.learning_rate * factor
        batch = self._batch(step)
        inputs = augmented(as_tensors(self.model, batch), self.options, np.random.default_rng([self.seed, 11, step]))
        optimizer.zero_grad(set_to_none=True)
        norms = self.norms if len(batch) > 1 else []  # one sample has no statistics
        for norm in norms:
            norm.train()
        loss = self._loss(inputs, batch)
        for norm in norms:
            norm.eval()
        if not torch.isfinite(loss):
            raise StageError(
                f"training: the loss became {loss.item()} at step {step}; lower learning_rate (now {self.options.learning_rate})"
            )
        torch.autograd.backward(loss)
        optimizer.step()
        if self.is_hooked:
            keep_zero_exact(self.model.network)
        return float(loss.item())

    def _batch(self, step: int) -> Samples:
        epoch, position = divmod(step, self.steps_per_epoch)
        if self.order is None or self.order[0] != epoch:
            self.order = epoch, np.random.default_rng([self.seed, 5, epoch]).permutation(self.trained_on)
        order = self.order[1]
        start = position * self.options.batch_size
        return self.samples.take(order[start : start + self.options.batch_size])

    def _loss(self, inputs: tuple[torch.Tensor, ...], batch: Samples) -> torch.Tensor:
        inputs = laid(inputs, self.layout)
        outputs = flat_outputs(self.model.network(*inputs))
        share = 1.0 if self.options.loss == "labels" else self.options.labels_weight
        parts = []
        if share and batch.labels is not None:
            parts.append(share * functional.cross_entropy(outputs[0], torch.from_numpy(batch.labels)))
        if share < 1 or self.features is not None:
            with torch.no_grad():
                wanted = flat_outputs(self.teacher(*inputs))
            apart = [output_distance(ours, theirs, self.options) for ours, theirs in zip(outputs, wanted, strict=True)]
            parts += [(1 - share) * torch.stack(apart).sum()] if share < 1 else []
        if self.features is not None:
            ours, theirs = (one.take() for one in self.features)
            compared = values_loss if self.options.features_by == "values" else likeness_loss
            unlike = [compared(*pair) for pair in zip(ours, theirs, strict=True)]
            parts.append(self.options.features_weight * torch.stack(unlike).mean())
        return torch.stack(parts).sum()

    def _judge(self, state: _Progress) -> None:
        """Compute the held-out loss; remember the network if it is the best so far."""
        if not len(self.held_out):
            return
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(self.held_out), self.options.batch_size):
                batch = self.samples.take(self.held_out[start : start + self.options.batch_size])
                total += float(self._loss(as_tensors(self.model, batch), batch)) * len(batch)
        loss = total / len(self.held_out)
        if not math.isfinite(state.first_loss):
            state.first_loss = loss
        if loss < state.best_loss:
            state.best_loss, state.best_step, state.epochs_without_gain = loss, state.step, 0
            state.best_state = copy.deepcopy(self.model.network.state_dict())
        else:
            state.epochs_without_gain += 1
        if self.options.patience is not None and state.epochs_without_gain >= self.options.patience:
            state.stopped_early = True

    def _save(self, optimizer: torch.optim.Optimizer, state: _Progress) -> None:
        buffer = io.BytesIO()
        torch.save(
            {
                "key": self.key,
                "network": self.model.network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "state": {name: getattr(state, name) for name in _Progress.__slots__},
            },
            buffer,
        )
        write_atomic(self.checkpoint, buffer.getvalue())

    def _resume(self, optimizer: torch.optim.Optimizer, progress: Progress) -> _Progress:
        """Where a killed run of this very training was; the start when there is none, or its checkpoint can't be read."""
        if not self.checkpoint.is_file():
            return _Progress()
        try:
            saved: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
            if saved["key"] != self.key:
                return _Progress()
            state = _Progress(**saved["state"])
            network, optimized = saved["network"], saved["optimizer"]
        except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as exc:
            progress.note(f"{self.checkpoint}: a damaged checkpoint ({type(exc).__name__}); training starts anew")
            return _Progress()
        self.model.network.load_state_dict(network)
        optimizer.load_state_dict(optimized)
        return state


def total_steps(options: Training, samples: int) -> int:
    """How many optimizer steps a training on so many samples takes."""
    trained_on = samples - int(samples * options.holdout)
    return options.steps or max(1, math.ceil(trained_on / options.batch_size)) * (options.epochs or 1)


def _make_optimizer(options: Training, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=options.learning_rate, momentum=0.9, weight_decay=options.weight_decay)
    kind = torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)


def _schedule_factor(options: Training, step: int, total: int) -> float:
    """The learning rate's factor at a step: linear warm-up, then constant or half a cosine (arXiv:1608.03983)."""
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    if options.schedule == "constant":
        return 1.0
    done = (step - options.warmup_steps) / max(1, total - options.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))
