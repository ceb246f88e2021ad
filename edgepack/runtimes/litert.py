"""LiteRT (TensorFlow Lite) on the CPU, through the `ai_edge_litert` interpreter that apps on Linux boards use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.core.digest import sha256_file
from edgepack.core.errors import EnvironmentProblem, StageError, UnsupportedError, did_you_mean
from edgepack.core.section import Section
from edgepack.core.types import Array, Artifact, Layout, QuantParams, Signature
from edgepack.runtimes.grid import dequantize, quantize
from edgepack.runtimes.protocol import Execution, Operator

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

FORMAT = "tflite"
_SHORT = {
    "int8": "i8",
    "uint8": "u8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "float16": "f16",
    "float32": "f32",
}
_MAIN_SIGNATURE = "serving_default"


class LiteRT(Section):
    """The LiteRT interpreter with its default delegate (XNNPACK), as an app gets it."""

    def open(self, path: Path, *, threads: int = 1, keep_tensors: bool = False) -> LiteRTSession:
        """A session on a .tflite file.

        Raises StageError for a file that is no model, UnsupportedError for operators or shapes that can't be run here.
        """
        interpreter = _interpreter(path, threads=threads, keep_tensors=keep_tensors)
        return LiteRTSession(path, interpreter, keep_tensors=keep_tensors)

    def version(self) -> str:
        return version("ai-edge-litert")


class LiteRTSession:
    """A Session on one interpreter. Not for use by two threads at once."""

    def __init__(self, path: Path, interpreter: Interpreter, *, keep_tensors: bool) -> None:
        self._path = path
        self._interpreter = interpreter
        self._keep_tensors = keep_tensors
        self._has_run = False
        names = _signature_names(interpreter)
        self._input_details = interpreter.get_input_details()
        self._output_details = interpreter.get_output_details()
        self.inputs = _signatures(self._input_details, names["inputs"])
        self.outputs = _signatures(self._output_details, names["outputs"])
        self._tensor_details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
        self._tensor_names = _unique_names(self._tensor_details)
        self.execution = Execution(device="CPU", types=_execution_types(self._operators(), self._tensor_details))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See Session.run."""
        self._check_inputs(inputs)
        samples = len(inputs[self.inputs[0].name])
        arrays = [np.ascontiguousarray(inputs[signature.name]) for signature in self.inputs]
        outputs = [np.empty((samples, *signature.shape[1:]), signature.dtype) for signature in self.outputs]
        for sample in range(samples):
            for detail, array in zip(self._input_details, arrays, strict=True):
                self._interpreter.set_tensor(detail["index"], array[sample : sample + 1])
            self._invoke()
            for detail, array in zip(self._output_details, outputs, strict=True):
                array[sample : sample + 1] = self._interpreter.get_tensor(detail["index"])
        return {signature.name: array for signature, array in zip(self.outputs, outputs, strict=True)}

    def run_float(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See Session.run_float."""
        self._check_names(inputs)
        codes = {signature.name: _to_codes(inputs[signature.name], signature) for signature in self.inputs}
        outputs = self.run(codes)
        return {signature.name: _to_real(outputs[signature.name], signature) for signature in self.outputs}

    def tensors(self) -> dict[str, Array]:
        """See Session.tensors. Of tensors with equal names the first keeps it; the others get '#' and their index."""
        if not self._keep_tensors:
            raise StageError(f"{self._path}: tensors were not kept; open the session with keep_tensors=True")
        if not self._has_run:
            raise StageError(f"{self._path}: no tensors yet; run the session first")
        indices = [detail["index"] for detail in self._input_details]
        indices += [int(index) for operator in self._operators() for index in operator["outputs"] if index >= 0]
        return {self._tensor_names[index]: self._real_tensor(index) for index in dict.fromkeys(indices)}

    def operators(self) -> tuple[Operator, ...]:
        """See Session.operators."""
        return tuple(
            Operator(
                name=str(operator["op_name"]),
                inputs=tuple(self._tensor_names[int(index)] for index in operator["inputs"] if index >= 0),
                outputs=tuple(self._tensor_names[int(index)] for index in operator["outputs"] if index >= 0),
            )
            for operator in self._operators()
        )

    def _operators(self) -> list[dict[str, Any]]:
        # A delegate's node comes on top of those that it replaces, which stay listed.
        return [details for details in self._interpreter._get_ops_details() if details["op_name"] != "DELEGATE"]

    def _real_tensor(self, index: int) -> Array:
        params = _quantization(self._tensor_details[index])
        values: Array = self._interpreter.get_tensor(index)
        return values.astype(np.float32) if params is None else dequantize(values, params)

    def _invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as exc:
            raise StageError(f"{self._path}: LiteRT failed while running the model: {_one_line(exc)}") from exc
        self._has_run = True

    def _check_names(self, inputs: Mapping[str, Array]) -> None:
        known = [signature.name for signature in self.inputs]
        for name in inputs:
            if name not in known:
                raise StageError(f"{self._path}: has no input '{name}'{did_you_mean(name, known)}")
        if missing := [name for name in known if name not in inputs]:
            raise StageError(f"{self._path}: no values for the input '{missing[0]}'")

    def _check_inputs(self, inputs: Mapping[str, Array]) -> None:
        self._check_names(inputs)
        samples = inputs[self.inputs[0].name].shape[:1]
        for signature in self.inputs:
            array = inputs[signature.name]
            expected = (*samples, *signature.shape[1:])
            if array.shape != expected or array.dtype != np.dtype(signature.dtype):
                shape = ", ".join(["N", *map(str, signature.shape[1:])])
                raise StageError(
                    f"{self._path}: input '{signature.name}' takes {signature.dtype} of shape ({shape}), the same N for all "
                    f"inputs; got {array.dtype} of shape {array.shape}"
                )


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
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as exc:
        raise EnvironmentProblem(
            f"LiteRT can't be loaded ({exc}); install it with: pip install ai-edge-litert"
        ) from exc
    # A delegate runs its part of the graph as one node and hides the tensors within.
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if keep_tensors else OpResolverType.AUTO
    try:
        interpreter = Interpreter(
            model_path=str(path),
            num_threads=threads,
            experimental_op_resolver_type=resolver,
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
    for detail in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        if tuple(detail["shape"][:1]) != (1,):
            raise UnsupportedError(
                f"{path}: '{detail['name']}' has shape {tuple(map(int, detail['shape']))}; only models of batch size 1 are supported"
            )
    return interpreter


def _execution_types(operators: list[dict[str, Any]], details: Mapping[int, dict[str, Any]]) -> dict[str, int]:
    """Operators by the type of their first output: LiteRT's kernels compute in the type that the file states."""
    counts: dict[str, int] = defaultdict(int)
    for operator in operators:
        counts[_SHORT.get(np.dtype(details[int(operator["outputs"][0])]["dtype"]).name, "other")] += 1
    return dict(sorted(counts.items()))


def _signature_names(interpreter: Interpreter) -> dict[str, dict[int, list[str]]]:
    """For inputs and outputs: the names in the model's signature, by tensor index; empty for a model without one."""
    keys = sorted(interpreter.get_signature_list(), key=lambda key: (key != _MAIN_SIGNATURE, key))
    names: dict[str, dict[int, list[str]]] = {"inputs": defaultdict(list), "outputs": defaultdict(list)}
    if keys:
        runner = interpreter.get_signature_runner(keys[0])
        for name, detail in runner.get_input_details().items():
            names["inputs"][detail["index"]].append(name)
        for name, detail in runner.get_output_details().items():
            names["outputs"][detail["index"]].append(name)
    return names


def _signatures(details: list[dict[str, Any]], names: dict[int, list[str]]) -> tuple[Signature, ...]:
    # A tensor that is two outputs at once has two names; each use takes the next one.
    left = {index: list(known) for index, known in names.items()}
    signatures = []
    for detail in details:
        known = left.get(detail["index"])
        signatures.append(
            Signature(
                name=known.pop(0) if known else str(detail["name"]),
                shape=tuple(int(size) for size in detail["shape"]),
                dtype=np.dtype(detail["dtype"]).name,
                quantization=_quantization(detail),
            )
        )
    return tuple(signatures)


def _quantization(detail: dict[str, Any]) -> QuantParams | None:
    params = detail["quantization_parameters"]
    if len(params["scales"]) == 0:
        return None
    return QuantParams(
        scale=tuple(float(scale) for scale in params["scales"]),
        zero_point=tuple(int(zero) for zero in params["zero_points"]),
        dtype=np.dtype(detail["dtype"]).name,
        axis=int(params["quantized_dimension"]) if len(params["scales"]) > 1 else None,
    )


def _unique_names(details: Mapping[int, dict[str, Any]]) -> dict[int, str]:
    """A name for every tensor index: the file's own where it is the first with that name, else with '#' and the index."""
    taken = {str(detail["name"]) for detail in details.values()}
    names: dict[int, str] = {}
    for index, detail in details.items():
        name = str(detail["name"])
        if not name or name in names.values():
            name = f"{name}#{index}"
            while name in taken:
                name += "#"
        names[index] = name
    return names


def _to_codes(values: Array, signature: Signature) -> Array:
    if signature.quantization is None:
        return values.astype(signature.dtype, copy=False)
    return quantize(values, signature.quantization)


def _to_real(codes: Array, signature: Signature) -> Array:
    if signature.quantization is None:
        return codes.astype(np.float32, copy=False)
    return dequantize(codes, signature.quantization)


def _unsupported(path: Path, exc: Exception) -> UnsupportedError:
    return UnsupportedError(f"{path}: LiteRT {version('ai-edge-litert')} can't run this model: {_one_line(exc)}")


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())
