"""What a compression method is, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgepack.core.types import Progress, Samples, SampleSource

if TYPE_CHECKING:
    from edgepack.bundle.update_base import Base
    from edgepack.network.model import Model
    from edgepack.targets import NumericConstraints


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a method may use beside the model.

    `original` is the uncompressed model, which teaches. `workspace` is a folder for checkpoints that survives a kill; `key` names this
    very step, so that a checkpoint of another one is never resumed. `base` is the older model that this build updates, if it does.
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


class Phase(IntEnum):
    """The order of steps: what comes later builds on what came before, and must not be undone by it."""

    STRUCTURE = 0  # channels are removed
    FACTORS = 1  # layers become products of smaller ones
    WEIGHTS = 2  # weights become zero
    SHARING = 3  # weights share few values
    ORDER = 4  # channels change their places
    GRID = 5  # everything is rounded


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
