"""LiteRT (TensorFlow Lite) on the CPU, through the `ai_edge_litert` interpreter that apps on Linux boards use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.core.digest import sha256_file
from edgepack.core.errors import EnvironmentProblem, StageError, UnsupportedError, did_you_mean
from edgepack.core.section import Section
from edgepack.core.types import Array, Artifact, Layout, QuantParams, Signature
from edgepack.runtimes.tflite_session import MAIN_SIGNATURE, ModelFacts, OperatorFacts, TensorFacts, TfliteSession

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

FORMAT = "tflite"


class LiteRT(Section):
    """The LiteRT interpreter with its default delegate (XNNPACK), as an app gets it."""

    def open(self, path: Path, *, threads: int = 1, keep_tensors: bool = False) -> TfliteSession:
        """A session on a .tflite file.

        Raises StageError for a file that is no model, UnsupportedError for operators or shapes that can't be run here.
        """
        interpreter = _interpreter(path, threads=threads, keep_tensors=keep_tensors)
        return TfliteSession(path, _InThisProcess(path, interpreter), keep_tensors=keep_tensors)

    def absent(self) -> str:
        return ""  # a CPU is always here

    def version(self) -> str:
        return version("ai-edge-litert")


class _InThisProcess:
    """The Engine of an interpreter in this process."""

    def __init__(self, path: Path, interpreter: Interpreter) -> None:
        self._path = path
        self._interpreter = interpreter
        self.facts = _facts(interpreter)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See Engine.run."""
        tensors = [self.facts.tensors[index] for index in self.facts.outputs]
        outputs: list[Array] = [np.empty((len(inputs[0]), *one.shape[1:]), one.dtype) for one in tensors]
        for sample in range(len(inputs[0])):
            for index, array in zip(self.facts.inputs, inputs, strict=True):
                self._interpreter.set_tensor(index, array[sample : sample + 1])
            self._invoke()
            for index, array in zip(self.facts.outputs, outputs, strict=True):
                array[sample : sample + 1] = self._interpreter.get_tensor(index)
        return outputs

    def tensor(self, index: int) -> Array:
        """See Engine.tensor."""
        values: Array = self._interpreter.get_tensor(index)
        return values

    def _invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as exc:
            raise StageError(f"{self._path}: LiteRT failed while running the model: {_one_line(exc)}") from exc


def signature_of(path: Path) -> tuple[tuple[Signature, ...], tuple[Signature, ...]]:
    """Inputs and outputs of a .tflite file, in its order. Raises as `LiteRT.open`."""
    session = LiteRT().open(path)
    return session.inputs, session.outputs


def artifact_of(path: Path, *, layouts: Mapping[str, Layout] | None = None) -> Artifact:
    """A .tflite file as an Artifact. `layouts` says what the file can't: the layout of inputs and outputs, by name.

    Raises as `LiteRT.open`, and StageError for a name in `layouts` that the model doesn't have.
    """
    inputs, outputs = signature_of(path)
    layouts = layouts or {}
    known = {signature.name for signature in (*inputs, *outputs)}
    for name in layouts:
        if name not in known:
            raise StageError(f"{path}: has no input or output '{name}'{did_you_mean(name, known)}")
    return Artifact(
        path=path,
        sha256=sha256_file(path),
        size_bytes=path.stat().st_size,
        format=FORMAT,
        inputs=tuple(replace(signature, layout=layouts.get(signature.name, "any")) for signature in inputs),
        outputs=tuple(replace(signature, layout=layouts.get(signature.name, "any")) for signature in outputs),
    )


def _interpreter(path: Path, *, threads: int, keep_tensors: bool) -> Interpreter:
    if not path.is_file():
        raise StageError(f"{path}: no such model file")
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as exc:
        raise EnvironmentProblem(
            f"LiteRT can't be loaded ({exc}); install it with: pip install ai-edge-litert"
        ) from exc
    # Where all tensors are kept, the delegate takes each operator as a node of its own: the same kernels, whose outputs can be read. (Without the delegate LiteRT 2.3
    # has other kernels, which are up to 0.03 steps off exact arithmetic before they round.)
    try:
        interpreter = Interpreter(
            model_path=str(path),
            num_threads=threads,
            experimental_preserve_all_tensors=keep_tensors,
        )
    except (ValueError, RuntimeError) as exc:
        if "Registration failed" in str(exc):  # an operator, or a version of one, that this LiteRT doesn't know
            raise _unsupported(path, exc) from exc
        raise StageError(f"{path}: not a whole LiteRT model: {_one_line(exc)}; convert it again") from exc
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as exc:
        raise _unsupported(path, exc) from exc
    return interpreter


def _facts(interpreter: Interpreter) -> ModelFacts:
    input_names, output_names = _signature_names(interpreter)
    return ModelFacts(
        tensors={int(detail["index"]): _tensor(detail) for detail in interpreter.get_tensor_details()},
        operators=tuple(
            OperatorFacts(
                name=str(details["op_name"]),
                inputs=tuple(int(index) for index in details["inputs"]),
                outputs=tuple(int(index) for index in details["outputs"]),
            )
            # A delegate's node comes on top of those that it replaces, which stay listed.
            for details in interpreter._get_ops_details()
            if details["op_name"] != "DELEGATE"
        ),
        inputs=tuple(int(detail["index"]) for detail in interpreter.get_input_details()),
        outputs=tuple(int(detail["index"]) for detail in interpreter.get_output_details()),
        input_names=input_names,
        output_names=output_names,
    )


def _tensor(detail: dict[str, Any]) -> TensorFacts:
    dtype, params = np.dtype(detail["dtype"]).name, detail["quantization_parameters"]
    quantization = None
    if len(params["scales"]):
        quantization = QuantParams(
            scale=tuple(float(scale) for scale in params["scales"]),
            zero_point=tuple(int(zero) for zero in params["zero_points"]),
            dtype=dtype,
            axis=int(params["quantized_dimension"]) if len(params["scales"]) > 1 else None,
        )
    shape = tuple(int(size) for size in detail["shape"])
    return TensorFacts(
        index=int(detail["index"]), name=str(detail["name"]), shape=shape, dtype=dtype, quantization=quantization
    )


def _signature_names(interpreter: Interpreter) -> tuple[tuple[tuple[int, str], ...], tuple[tuple[int, str], ...]]:
    """For inputs and outputs: (tensor index, name in the model's signature); empty for a model without one."""
    keys = sorted(interpreter.get_signature_list(), key=lambda key: (key != MAIN_SIGNATURE, key))
    if not keys:
        return (), ()
    runner = interpreter.get_signature_runner(keys[0])
    inputs, outputs = (
        tuple((int(detail["index"]), str(name)) for name, detail in details.items())
        for details in (runner.get_input_details(), runner.get_output_details())
    )
    return inputs, outputs


def _unsupported(path: Path, exc: Exception) -> UnsupportedError:
    return UnsupportedError(f"{path}: LiteRT {version('ai-edge-litert')} can't run this model: {_one_line(exc)}")


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())
