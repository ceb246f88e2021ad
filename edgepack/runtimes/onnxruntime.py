"""ONNX Runtime, which runs .onnx files on CPUs, and on NVIDIA GPUs through its CUDA and TensorRT providers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgepack.core.errors import EnvironmentProblem, StageError, UnsupportedError
from edgepack.core.section import Section
from edgepack.core.types import Array, Signature
from edgepack.runtimes.borders import check_inputs, check_names, to_codes, to_real
from edgepack.runtimes.grid import dequantize
from edgepack.runtimes.onnxruntime_graph import Graph, execution_types, keep
from edgepack.runtimes.onnxruntime_library import errors, library, one_line, options_for, translated
from edgepack.runtimes.protocol import Execution, Operator

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_CPU = "CPUExecutionProvider"
_SHOWN_BYTES_MAX = 2**30  # a larger model is not written out a second time to see what runs
_PACKAGES = ("onnxruntime", "onnxruntime-gpu")


class OnnxRuntime(Section):
    """ONNX Runtime with all its graph optimizations."""

    providers: tuple[str, ...] = Field(
        default=(_CPU,),
        description="Execution providers in order of preference. Where this machine has none of them, the model runs on the CPU, and the report says so.",
    )
    provider_options: dict[str, dict[str, str | int | bool]] = Field(
        default_factory=dict, description="Options of providers, by their names: see ONNX Runtime's pages on each."
    )
    exact_sums: bool | None = Field(
        default=None,
        description="Whether weights become uint8, so that sums of products can't overflow 16 bits, for a third of the speed. Default: on x86 CPUs "
        "without VNNI, which need it.",
    )

    def open(self, path: Path, *, threads: int = 1, keep_tensors: bool = False) -> OnnxRuntimeSession:
        """A session on an .onnx file.

        Raises StageError for a file that is no model, UnsupportedError for operators, versions or shapes that can't be run here.
        """
        onnxruntime = library()
        model = _read(path)
        graph = Graph(model)
        quantized = graph.is_quantized()
        inputs = tuple(_signature(path, item, graph.input_grid(item.name)) for item in _real_inputs(model, graph))
        outputs = tuple(_signature(path, item, graph.output_grid(item.name)) for item in model.graph.output)
        kept = graph.kept() if keep_tensors else []
        operators = graph.operators()
        source = keep(model, [item.tensor for item in kept]) if keep_tensors else str(path)
        with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
            optimized = Path(folder) / "optimized.onnx"
            session, missed = self._session(onnxruntime, path, source, threads, optimized)
            types, told = _what_runs(optimized, quantized=quantized)
        return OnnxRuntimeSession(
            path,
            session,
            inputs=inputs,
            outputs=outputs,
            kept={item.name: (item.tensor, item.grid) for item in kept} if keep_tensors else None,
            operators=operators,
            takes_batches=all(_any_batch(item) for item in model.graph.input if item.name in graph.inputs),
            execution=Execution(device=session.get_providers()[0], types=types, notes=(*missed, *told)),
        )

    def absent(self) -> str:
        available = library().get_available_providers()
        if not self.providers or self.providers[0] in available:
            return ""
        return f"{self.providers[0]}: ONNX Runtime has only {', '.join(available)} here"

    def version(self) -> str:
        for package in _PACKAGES:
            try:
                return version(package)
            except PackageNotFoundError:
                continue
        raise EnvironmentProblem("ONNX Runtime is not installed; install it with: pip install onnxruntime")

    def _session(
        self, onnxruntime: Any, path: Path, source: str | bytes, threads: int, optimized: Path
    ) -> tuple[InferenceSession, tuple[str, ...]]:
        """The session, and notes on the preferred providers that are not here or don't start."""
        there = [name for name in self.providers if name in onnxruntime.get_available_providers()]
        chain = list(dict.fromkeys((*there, _CPU)))
        problem = ""
        while True:
            options = options_for(onnxruntime, threads, exact_sums=self.exact_sums)
            if path.stat().st_size < _SHOWN_BYTES_MAX and set(chain) <= {_CPU, "CUDAExecutionProvider"}:
                options.optimized_model_filepath = str(optimized)  # what TensorRT compiles can't be written as a graph
            providers = [(name, self.provider_options.get(name, {})) for name in chain]
            try:
                # Its own way to fall back prints to the terminal, and would move a running session to the CPU in silence.
                session = onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=0)
            except errors() as exc:
                if chain[0] == _CPU:
                    raise translated(path, exc, self.version()) from exc
                problem = problem or f" ({one_line(exc)})"
                chain = chain[1:]
            else:
                return session, _not_there(self.providers, session.get_providers(), problem)


class OnnxRuntimeSession:
    """A Session on one inference session. Not for use by two threads at once."""

    def __init__(
        self,
        path: Path,
        session: InferenceSession,
        *,
        inputs: tuple[Signature, ...],
        outputs: tuple[Signature, ...],
        kept: Mapping[str, tuple[str, Any]] | None,
        operators: tuple[Operator, ...],
        takes_batches: bool,
        execution: Execution,
    ) -> None:
        self._path, self._session, self.inputs, self.outputs = path, session, inputs, outputs
        self._kept, self._operators, self._takes_batches, self.execution = kept, operators, takes_batches, execution
        self._last: dict[str, Array] | None = None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See Session.run. A model with an open batch dimension gets all samples at once, unless its tensors are kept."""
        samples = check_inputs(self._path, self.inputs, inputs)
        if self._takes_batches and self._kept is None and samples:
            return self._infer(inputs)
        outputs = {item.name: np.empty((samples, *item.shape[1:]), item.dtype) for item in self.outputs}
        for index in range(samples):
            one = self._infer({name: array[index : index + 1] for name, array in inputs.items()})
            for name, array in outputs.items():
                array[index : index + 1] = one[name]
        return outputs

    def run_float(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See Session.run_float."""
        check_names(self._path, self.inputs, inputs)
        codes = {item.name: to_codes(inputs[item.name], item) for item in self.inputs}
        outputs = self.run(codes)
        return {item.name: to_real(outputs[item.name], item) for item in self.outputs}

    def tensors(self) -> dict[str, Array]:
        """See Session.tensors. What is computed in the middle of a fused integer kernel exists nowhere and is left out."""
        if self._kept is None:
            raise StageError(f"{self._path}: tensors were not kept; open the session with keep_tensors=True")
        if self._last is None:
            raise StageError(f"{self._path}: no tensors yet; run the session first")
        found = {item.name: to_real(self._last[item.name], item) for item in (*self.inputs, *self.outputs)}
        for name, (tensor, grid) in self._kept.items():
            values = self._last[tensor]
            found[name] = values.astype(np.float32) if grid is None else dequantize(values, grid)
        return found

    def operators(self) -> tuple[Operator, ...]:
        """See Session.operators. Pairs of QuantizeLinear and DequantizeLinear are the grid, not operators; `execution` tells what runs in float."""
        return self._operators

    def _infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        names = [item.name for item in self._session.get_outputs()]
        try:
            values = self._session.run(names, given)
        except errors() as exc:
            raise StageError(f"{self._path}: ONNX Runtime failed while running the model: {one_line(exc)}") from exc
        found = dict(zip(names, values, strict=True))
        if self._kept is not None:
            self._last = {**given, **found}
        return {item.name: found[item.name] for item in self.outputs}


def _read(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not path.is_file():
        raise StageError(f"{path}: no such model file")
    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as exc:
        raise StageError(f"{path}: not a whole ONNX model: {one_line(exc)}; convert it again") from exc
    if not model.graph.output:
        raise StageError(f"{path}: not a whole ONNX model: its graph has no outputs; convert it again")
    return model


def _real_inputs(model: Any, graph: Graph) -> list[Any]:
    """Old files list their constants among the inputs."""
    return [item for item in model.graph.input if item.name in graph.inputs]


def _any_batch(item: Any) -> bool:
    return not item.type.tensor_type.shape.dim[0].HasField("dim_value")


def _signature(path: Path, item: Any, grid: Any) -> Signature:
    from onnx import helper

    tensor = item.type.tensor_type
    batch, *others = list(tensor.shape.dim) or [None]
    is_one = batch is not None and (not batch.HasField("dim_value") or batch.dim_value == 1)
    if not is_one or not all(dim.HasField("dim_value") for dim in others):
        shape = ", ".join(str(dim.dim_value) if dim.HasField("dim_value") else "?" for dim in tensor.shape.dim)
        raise UnsupportedError(
            f"{path}: '{item.name}' has shape ({shape}); only models of batch size 1, or any, with all other dimensions fixed are supported"
        )
    return Signature(
        name=item.name,
        shape=(1, *(dim.dim_value for dim in others)),
        dtype=helper.tensor_dtype_to_np_dtype(tensor.elem_type).name,
        quantization=grid,
    )


def _what_runs(optimized: Path, *, quantized: bool) -> tuple[dict[str, int], tuple[str, ...]]:
    import onnx

    if not optimized.is_file():
        return {}, ()
    return execution_types(onnx.load(optimized), quantized=quantized)


def _not_there(wanted: tuple[str, ...], ran_on: list[str], problem: str) -> tuple[str, ...]:
    """What a reader must know when the first choice is not here, or doesn't start because of `problem`."""
    if not wanted or wanted[0] in ran_on:
        return ()
    what = "not run on a GPU" if ran_on[0] == _CPU else f"not run by {wanted[0]}"
    return (f"{what}: ONNX Runtime has no {wanted[0]} that works here{problem}; ran on {ran_on[0]}",)
