"""What every runtime offers: open a model file, run it in its own dtypes or in real values, look inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgepack.core.types import Array, Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of the graph: its kind ('CONV_2D') and its tensors, by the names that `Session.tensors` has."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Session(Protocol):
    """An open model."""

    @property
    def inputs(self) -> tuple[Signature, ...]:
        """In the order of the model file."""

    @property
    def outputs(self) -> tuple[Signature, ...]:
        """In the order of the model file."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs for N samples, one after the other, in the artifact's own dtypes.

        Every input has shape (N, …) and exactly the dtype of its signature; outputs have shape (N, …).
        Raises StageError for inputs that don't fit the signature, or when the runtime fails.
        """

    def run_float(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Like `run`, in real values: float inputs are quantized by the input's grid, outputs come back as float32.

        Rounding is that of `edgepack.runtimes.grid.quantize`. Raises DataError for NaN in an input with a grid.
        """

    def tensors(self) -> dict[str, Array]:
        """Inputs, intermediate tensors and outputs of the last sample by name, as real values (float32).

        Weights and other constants are not among them. Raises StageError unless the session was opened with
        keep_tensors=True and has run.
        """

    def operators(self) -> tuple[Operator, ...]:
        """The operators in the order in which they run; what a delegate adds of its own is left out."""


class Runtime(Protocol):
    """A library that runs model files."""

    def open(self, path: Path, *, threads: int = 1, keep_tensors: bool = False) -> Session:
        """A session on a model file.

        With `keep_tensors` every tensor stays readable after a run, which needs more memory and the runtime's plain
        kernels; without it the model runs as in an app.
        Raises StageError for a file that is no model, UnsupportedError for one that this runtime can't take.
        """

    def version(self) -> str:
        """The library's version, e.g. '2.3.0'."""
