"""The training inside a compression step: what a method made of the model learns to answer as its teacher does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgepack.methods.protocol import Context
from edgepack.network.training import Training

if TYPE_CHECKING:
    from edgepack.network.model import Model
    from edgepack.network.train import Trained


def fine_tune(
    model: Model,
    train: Training,
    context: Context,
    *,
    what: str,
    before_step: Callable[[int, int], None] | None = None,
    best_after: float = 0.0,
    learns_norms: bool = False,
) -> Trained:
    """Train the network in place, on the step's samples, to the end; `what` names the training to the user.

    A run that was killed goes on from the step's one checkpoint, so a step trains once. `before_step`, `best_after` and `learns_norms` are
    the Trainer's, as is what is raised.
    """
    from edgepack.network.train import Trainer

    assert context.train is not None
    trainer = Trainer(
        model,
        context.teacher(train),
        context.train,
        train,
        checkpoint=context.workspace / "checkpoint.pt",
        key=context.key,
        seed=context.seed,
        before_step=before_step,
        best_after=best_after,
        learns_norms=learns_norms,
    )
    return trainer.run(context.progress, what=what)
