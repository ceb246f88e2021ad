"""What every runtime offers: open a model file, run it in its own dtypes or in real values, look inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgepack.core.types import Array, Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of the graph: its kind ('CONV_2D') and its tensors, by the names that `Session.tensors` has."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What really ran, as the runtime itself tells it.

    `device` is the device or provider ('CPU', 'CPUExecutionProvider'); `types` counts operators by the arithmetic they run in
    ({'i8': 12, 'f32': 2}; empty where a runtime doesn't tell); `notes` are what a reader of the numbers must know, such as
    'not run on a GPU: ONNX Runtime has no CUDAExecutionProvider here'.
    """

    device: str
    types: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Session(Protocol):
    """An open model."""

    @property
    def execution(self) -> Execution:
        """Where and in what arithmetic this session runs."""

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
    """A library that runs model files. A pydantic model (`core.section.Section`) whose fields are a target's `[runtime_options]`.

    Modules of runtimes import their library in `open` only. Every field has a default, so that `RUNTIMES.load(name)()` is the runtime as it comes.
    """

    @classmethod
    def model_validate(cls, obj: Any) -> Runtime: ...

    def model_dump(self, *, mode: str = ...) -> dict[str, Any]: ...

    def open(self, path: Path, *, threads: int = 1, keep_tensors: bool = False) -> Session:
        """A session on a model file.

        With `keep_tensors` every tensor stays readable after a run, which needs more memory and the runtime's plain
        kernels; without it the model runs as in an app.
        Raises StageError for a file that is no model, UnsupportedError for one that this runtime can't take.
        """

    def version(self) -> str:
        """The library's version, e.g. '2.3.0'."""

    def absent(self) -> str:
        """What this machine lacks of the hardware that models shall run on, such as 'a GPU: OpenVINO finds only CPU here'; '' where nothing.

        Asked only where a run elsewhere would be of no use: it loads the library.
        """
