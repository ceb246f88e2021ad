"""What a source is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from edgepack.core.types import Layout, TensorSpec
from edgepack.recipe import InputSection, ModelSection

if TYPE_CHECKING:
    from torch import nn

    from edgepack.network.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What can be done with the models of a kind of source beside exporting them as they are.

    `quantizes`: post-training quantization; `trains`: steps that train (QAT, pruning). `reason` says, where one is missing, why, and
    what to do instead. `finished` is the format ('tflite') of a model that is exported already: it is verified, bundled and benched as it is.
    """

    quantizes: bool = True
    trains: bool = True
    reason: str = ""
    finished: str = ""


class Source(Protocol):
    """Turns the recipe's `[model]` into a Model in memory.

    `folder` is the recipe's folder. Modules of sources import torch and their own library inside their functions only: a plan asks for
    `files`, `inputs` and `abilities`, and must not wait for a framework.
    """

    abilities: ClassVar[Abilities]
    tools: ClassVar[tuple[str, ...]]  # packages beside torch whose versions decide about the model

    def __init__(self, *, section: ModelSection, folder: Path) -> None: ...

    def files(self) -> tuple[Path, ...]:
        """Every file known beforehand whose bytes decide about the model. Raises SourceError for one that is missing."""

    def inputs(self) -> tuple[InputSection, ...]:
        """The inputs with the names and layouts that the rest of the build uses.

        Raises SourceError for a file that is not what its name says, and for a dimension whose size nobody says.
        """

    def load(self, scratch: Path) -> tuple[Model, tuple[Path, ...]]:
        """The float model in evaluation mode, and the further code files that it turned out to depend on.

        What `builder` will need goes into `scratch`, an empty folder, so that a file is converted once.
        Raises SourceError with what is wrong and what to do, and UnsupportedError for operators that have no counterpart.
        """

    def builder(self, folder: Path) -> Callable[[], nn.Module]:
        """Makes fresh networks of the architecture, with any values, for stages that have the values already.

        `folder` holds what `load` left in its scratch folder.
        """


def input_spec(section: InputSection) -> TensorSpec:
    """An input of the recipe as the network takes it, one sample at a time."""
    layouts: dict[str, Layout] = {"CHW": "NCHW", "HWC": "NHWC", "any": "any"}
    return TensorSpec(name=section.name, shape=(1, *section.shape), dtype=section.dtype, layout=layouts[section.layout])
