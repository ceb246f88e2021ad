"""What an exporter is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgepack.core.types import Array, Grid, Progress, QuantParams, Samples

if TYPE_CHECKING:
    from edgepack.network.model import Model
    from edgepack.targets import NumericConstraints


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How the artifact meets the app: see ExportSection of the recipe."""

    io_dtype: Literal["int8", "float32"] = "int8"
    nhwc_inputs: bool = False
    float_dtype: Literal["float32", "float16"] = "float32"
    dynamic_batch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export made.

    `path` is the file that ships, `companions` what the runtime opens beside it (OpenVINO's .bin); `float_path` is the same network before quantization, for comparison. `tensors` maps
    the file's tensors to the network's operations (for layer-by-layer comparison), with the grid imposed on each; `grid` is the network's whole grid,
    None for a file without one, and `codes` are its weights, int8 in torch's dimension order; `notes` are named deviations, such as ranges that were derived; `added` are the
    operators that the file has on purpose beyond those of the float file, or in their place.
    """

    path: Path
    float_path: Path
    format: str
    companions: tuple[Path, ...] = ()
    tensors: Mapping[str, tuple[str, QuantParams]] = field(default_factory=dict)
    grid: Grid | None = None
    codes: Mapping[str, Array] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


class Exporter(Protocol):
    """Turns a Model into an Artifact, imposing the grid that training learned.

    A pydantic model (`core.section.Section`) whose fields are `options` and, each with a default, the keys of a target's `[exporter_options]`.
    Modules of exporters import torch and their own libraries inside functions only: a plan reads the options without them.
    """

    @classmethod
    def model_validate(cls, obj: Any) -> Exporter: ...

    def model_dump(self, *, mode: str = ...) -> dict[str, Any]: ...

    def export(self, model: Model, probe: Samples, folder: Path, *, progress: Progress) -> Exported:
        """Write the files into `folder`. `probe` is one sample that tells tensors apart.

        Raises UnsupportedError for an operator that the format can't take, with its place in the model.
        """

    def adopt(self, path: Path) -> Exported:
        """A finished file as it is, where the target can take it.

        Raises UnsupportedError for one that it can't, and from an exporter that takes no finished files.
        """

    def check(
        self, model: Model, probe: Samples, folder: Path, *, constraints: NumericConstraints | None, progress: Progress
    ) -> Exported:
        """Write the float model's file (`path` and `float_path` are the same); with `constraints`, also prove that it can be laid out on such a grid.

        Runs before any training. Raises UnsupportedError that names the operator and its place in the model.
        """
