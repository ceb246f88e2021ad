"""What an exporter is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from edgepack.core.types import Progress, QuantParams, Samples

if TYPE_CHECKING:
    from edgepack.network.model import Model
    from edgepack.targets import NumericConstraints


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How the artifact meets the app: see ExportSection of the recipe."""

    io_dtype: Literal["int8", "float32"] = "int8"
    nhwc_inputs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export made.

    `path` is the file that ships; `float_path` is the same network before quantization, for comparison. `tensors` maps
    the file's tensors to the network's operations (for layer-by-layer comparison), with the grid imposed on each; `notes` are named
    deviations, such as ranges that were derived.
    """

    path: Path
    float_path: Path
    format: str
    tensors: Mapping[str, tuple[str, QuantParams]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """Turns a Model into an Artifact, imposing the grid that training learned."""

    def __init__(self, *, options: ExportOptions) -> None: ...

    def export(self, model: Model, probe: Samples, folder: Path, *, progress: Progress) -> Exported:
        """Write the files into `folder`. `probe` is one sample that tells tensors apart.

        Raises UnsupportedError for an operator that the format can't take, with its place in the model.
        """

    def check(
        self, model: Model, probe: Samples, folder: Path, *, constraints: NumericConstraints | None, progress: Progress
    ) -> Path:
        """Write the float model's file and answer its path; with `constraints`, also prove that it can be laid out on such a grid.

        Runs before any training. Raises UnsupportedError that names the operator and its place in the model.
        """
