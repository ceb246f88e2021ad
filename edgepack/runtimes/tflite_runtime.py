"""tflite-runtime 2.14, the interpreter that is installed on older boards, in a virtual environment of its own.

Its last release (2023) is built against NumPy 1 and ends with CPython 3.11, so it can't be imported beside the rest; `make tflite-runtime` makes an
environment for it, and a worker process there runs the models.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from edgepack.core.errors import EdgepackError, EnvironmentProblem, StageError, UnsupportedError
from edgepack.core.section import Section
from edgepack.core.types import Array, QuantParams
from edgepack.runtimes.tflite_session import ModelFacts, OperatorFacts, TensorFacts, TfliteSession
from edgepack.runtimes.worker import WorkerProcess

PYTHON_VARIABLE = "EDGEPACK_TFLITE_RUNTIME_PYTHON"
# Where `make tflite-runtime` puts it: inside the environment that runs edgepack.
_BESIDE = Path("tflite-runtime", "bin", "python")
_WORKER = Path(__file__).resolve().parent.parent / "agent" / "tflite_worker.py"
# Samples of one question: enough that asking costs nothing, few enough that memory and waiting stay bounded.
_CHUNK = 32


class TfliteRuntime(Section):
    """The `tflite_runtime` package as it is on an older board, in a Python of its own."""

    python: str | None = Field(
        default=None,
        description="Interpreter that has tflite-runtime and NumPy 1; default: the environment variable EDGEPACK_TFLITE_RUNTIME_PYTHON, "
        "else the environment that `make tflite-runtime` made.",
    )
    timeout_s: float = Field(default=300.0, gt=0, description="Longest time to open a model, or to run 32 samples.")

    def open(self, path: Path, *, threads: int = 1, keep_tensors: bool = False) -> TfliteSession:
        """A session on a .tflite file.

        Raises EnvironmentProblem where there is no such interpreter, StageError for a file that is no model, UnsupportedError for operators, versions of
        operators or shapes that this old runtime can't run.
        """
        if not path.is_file():
            raise StageError(f"{path}: no such model file")
        engine = _InItsOwnPython(path, self._worker(), threads=threads, keep_tensors=keep_tensors)
        return TfliteSession(path, engine, keep_tensors=keep_tensors)

    def absent(self) -> str:
        return ""  # a CPU is always here

    def version(self) -> str:
        """Raises EnvironmentProblem where there is no such interpreter."""
        python = self.interpreter()
        return _version(python, Path(python).stat().st_mtime_ns, self.timeout_s)

    def interpreter(self) -> str:
        """The Python that has tflite-runtime. Raises EnvironmentProblem where none is named or the named one isn't there."""
        beside = Path(sys.prefix) / _BESIDE
        named = self.python or os.environ.get(PYTHON_VARIABLE) or (str(beside) if beside.is_file() else None)
        if named is None:
            raise EnvironmentProblem(
                "tflite-runtime runs in a Python of its own (3.9 to 3.11), and there is none: `make tflite-runtime` makes it, "
                f"or set {PYTHON_VARIABLE} to an interpreter that has tflite-runtime and NumPy 1"
            )
        found = shutil.which(named)
        if found is None:
            raise EnvironmentProblem(
                f"{named}: no such interpreter, so tflite-runtime can't run; correct {PYTHON_VARIABLE} "
                "(or the target's runtime_options.python), or make one with `make tflite-runtime`"
            )
        return found

    def _worker(self) -> WorkerProcess:
        return WorkerProcess(self.interpreter(), _WORKER, timeout_s=self.timeout_s)


class _InItsOwnPython:
    """The Engine of an interpreter in a worker process."""

    def __init__(self, path: Path, worker: WorkerProcess, *, threads: int, keep_tensors: bool) -> None:
        self._path, self._worker = path, worker
        question = {"do": "open", "model": str(path.resolve()), "threads": threads, "keep_tensors": keep_tensors}
        self.facts = _facts(self._ask(question)[0]["facts"])

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See Engine.run."""
        tensors = [self.facts.tensors[index] for index in self.facts.outputs]
        outputs: list[Array] = [np.empty((len(inputs[0]), *one.shape[1:]), one.dtype) for one in tensors]
        for start in range(0, len(inputs[0]), _CHUNK):
            _, parts = self._ask({"do": "run"}, [array[start : start + _CHUNK] for array in inputs])
            for output, part in zip(outputs, parts, strict=True):
                output[start : start + _CHUNK] = part
        return outputs

    def tensor(self, index: int) -> Array:
        """See Engine.tensor."""
        return self._ask({"do": "tensor", "index": index})[1][0]

    def _ask(self, question: Mapping[str, Any], arrays: Sequence[Array] = ()) -> tuple[dict[str, Any], list[Array]]:
        try:
            answer, received = self._worker.ask(question, arrays)
        except StageError as exc:
            raise StageError(f"{self._path}: tflite-runtime: {exc}") from exc
        if "error" in answer:
            raise _error(self._path, **answer["error"])
        return answer, received


def _error(path: Path, kind: str, message: str) -> EdgepackError:
    message = " ".join(message.split())
    if kind == "runtime":
        return EnvironmentProblem(f"{message}; make an environment that has it with `make tflite-runtime`")
    if kind == "unsupported":
        return UnsupportedError(f"{path}: tflite-runtime can't run this model: {message}")
    if kind == "model":
        return StageError(f"{path}: not a whole TensorFlow Lite model: {message}; convert it again")
    return StageError(f"{path}: tflite-runtime failed while running the model: {message}")


@lru_cache(maxsize=8)
def _version(python: str, modified_ns: int, timeout_s: float) -> str:
    worker = WorkerProcess(python, _WORKER, timeout_s=timeout_s)
    try:
        answer, _ = worker.ask({"do": "version"})
    except StageError as exc:
        raise EnvironmentProblem(f"{python}: can't run tflite-runtime: {exc}") from exc
    finally:
        worker.close()
    if "error" in answer:
        raise _error(Path(python), **answer["error"])
    return str(answer["version"])


def _facts(told: dict[str, Any]) -> ModelFacts:
    return ModelFacts(
        tensors={one["index"]: _tensor(one) for one in told["tensors"]},
        operators=tuple(
            OperatorFacts(name=one["name"], inputs=tuple(one["inputs"]), outputs=tuple(one["outputs"]))
            for one in told["operators"]
        ),
        inputs=tuple(told["inputs"]),
        outputs=tuple(told["outputs"]),
        input_names=tuple((index, name) for index, name in told["input_names"]),
        output_names=tuple((index, name) for index, name in told["output_names"]),
    )


def _tensor(told: dict[str, Any]) -> TensorFacts:
    quantization = None
    if told["scales"]:
        quantization = QuantParams(
            scale=tuple(told["scales"]),
            zero_point=tuple(told["zero_points"]),
            dtype=told["dtype"],
            axis=told["axis"] if len(told["scales"]) > 1 else None,
        )
    return TensorFacts(
        index=told["index"],
        name=told["name"],
        shape=tuple(told["shape"]),
        dtype=told["dtype"],
        quantization=quantization,
    )
