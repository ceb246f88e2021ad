"""What a compression method is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgepack.core.section import Section, found_in
from edgepack.core.types import Progress, Samples, SampleSource
from edgepack.network.training import Training
from edgepack.recipe import NetworkSection

if TYPE_CHECKING:
    from torch import nn

    from edgepack.bundle.update_base import Base
    from edgepack.network.channels.by_latency import Latency
    from edgepack.network.model import Model
    from edgepack.targets import NumericConstraints


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a method may use beside the model.

    `original` is the uncompressed model that the build began with, `student` the one that took its place, if one did, as it was then. `network` opens what a
    NetworkSection of the step's options names. `workspace` is a folder for checkpoints that survives a kill; `key` names this
    very step, so that a checkpoint of another one is never resumed. `base` is the older model that this build updates, if it does.
    `latency` measures a model on the target (in float, on this machine); None unless the method has `needs_latency`.
    """

    original: Model
    train: SampleSource | None
    calibration: Samples
    constraints: NumericConstraints
    workspace: Path
    key: str
    seed: int
    progress: Progress
    base: Base | None = None
    latency: Callable[[Model], Latency] | None = None
    student: Model | None = None
    network: Callable[[NetworkSection], Model] | None = None

    @property
    def dense(self) -> Model:
        """The model that the steps make smaller, before any has: what their shares are shares of."""
        return self.original if self.student is None else self.student

    def teacher(self, train: Training) -> nn.Module:
        """A fresh float network that a training learns from: the one that it names, else the original."""
        from edgepack.network.model import float_network

        if train.teacher is None:
            return float_network(self.original)
        assert self.network is not None
        return float_network(self.network(train.teacher))


class Phase(IntEnum):
    """The order of steps: what comes later builds on what came before, and must not be undone by it."""

    STUDENT = 0  # another network takes the model's place
    STRUCTURE = 1  # channels are removed
    FACTORS = 2  # layers become products of smaller ones
    WEIGHTS = 3  # weights become zero
    SHARING = 4  # weights share few values
    ORDER = 5  # channels change their places
    GRID = 6  # everything is rounded


class Method(Protocol):
    """One compression step: a model in, a smaller one out. A pydantic model whose fields are its options.

    Modules of methods import torch and NNCF inside their functions only: a plan reads the options without them. A method may also have `order_matters`,
    the reason why no later step may move channels ('' where one may), and `needs_latency`, whether it asks `Context.latency`.
    """

    model_fields: ClassVar[dict[str, Any]]

    @classmethod
    def model_validate(cls, obj: Any) -> Method: ...

    def model_dump(self, *, mode: str = ...) -> dict[str, Any]: ...

    # Where in a recipe the step belongs; steps must not fall back to an earlier phase.
    phase: ClassVar[Phase]

    @property
    def needs_training_samples(self) -> bool:
        """Whether `data.train` must be given."""

    def apply(self, model: Model, context: Context) -> Model:
        """The compressed model; `model` itself may be used up."""


def student_of(method: Method) -> NetworkSection | None:
    """The network that takes the model's place in this step; None for a step that changes the model that it is given."""
    student: NetworkSection | None = getattr(method, "student", None)
    return student


def networks_of(method: Method) -> dict[str, NetworkSection]:
    """Every network that a step names, by its place in the step's table; '' is the step itself."""
    student = student_of(method)
    named = dict(found_in(method, NetworkSection)) if isinstance(method, Section) else {}
    return ({} if student is None else {"": student}) | named


def trainings_of(method: Method) -> dict[str, Training]:
    """Every training of a step by its place in the step's table."""
    return dict(found_in(method, Training)) if isinstance(method, Section) else {}
