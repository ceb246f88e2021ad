"""Successive halving (Jamieson and Talwalkar 2016; without waiting for each other: Li et al. 2020, arXiv:1810.05934): every combination is trained
a little, the promising ones longer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgepack.network.training import Training
from edgepack.recipe import CompressStep

REDUCTION = 4
RUNGS = (1 / REDUCTION, 1.0)  # shares of the whole training
Rank = tuple[float, ...]


def trains(steps: Sequence[CompressStep]) -> bool:
    """Whether any step trains; else every rung is the same."""
    return any("train" in step.options() for step in steps)


def shortened(steps: Sequence[CompressStep], share: float, *, samples: int) -> tuple[CompressStep, ...]:
    """The steps with a share of their training, which `samples` go into."""
    return tuple(steps) if share >= 1 else tuple(_shortened(step, share, samples) for step in steps)


def promoted(rank: Rank, others: Sequence[Rank]) -> bool:
    """Whether a combination goes on to the next rung: it is among the best quarter of those that were on its own."""
    better = sum(other < rank for other in others)
    return better < math.ceil((len(others) + 1) / REDUCTION)


def steps_of(training: Training, samples: int) -> int:
    """How many optimizer steps a training on so many samples takes."""
    trained_on = samples - int(samples * training.holdout)
    return training.steps or max(1, math.ceil(trained_on / training.batch_size)) * (training.epochs or 1)


def _shortened(step: CompressStep, share: float, samples: int) -> CompressStep:
    """What happens every so many steps happens as often as in the whole training."""
    options = step.options()
    if "train" not in options:
        return step
    whole = steps_of(Training.model_validate(options["train"]), samples)
    train: dict[str, Any] = {key: value for key, value in options["train"].items() if key != "epochs"}
    short: dict[str, Any] = {"train": {**train, "steps": max(1, round(whole * share))}}
    if "update_every" in options:
        short["update_every"] = max(1, round(options["update_every"] * share))
    return CompressStep.model_validate({"method": step.method, **options, **short})
