"""What a source is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgepack.recipe import ModelSection

if TYPE_CHECKING:
    from edgepack.network.model import Model


class Source(Protocol):
    """Turns the recipe's `[model]` into a Model in memory.

    `folder` is the recipe's folder. Modules of sources import torch inside their functions only: a plan asks for `files`.
    """

    def __init__(self, *, section: ModelSection, folder: Path) -> None: ...

    def files(self) -> tuple[Path, ...]:
        """Every file known beforehand whose bytes decide about the model. Raises SourceError for one that is missing."""

    def load(self) -> tuple[Model, tuple[Path, ...]]:
        """The float model in evaluation mode, and the further code files that it turned out to depend on.

        Raises SourceError with what is wrong and what to do.
        """

    def build_again(self) -> Model:
        """The architecture with its initial values, for stages that have the values already."""
