"""OpenVINO, which runs IR files (model.xml with model.bin beside it) on Intel's and other x86-64 CPUs, GPUs and NPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from edgepack.core.errors import EnvironmentProblem, StageError, UnsupportedError
from edgepack.core.openvino_core import openvino_core
from edgepack.core.section import Section
from edgepack.core.types import Array, QuantParams, Signature
from edgepack.runtimes.borders import check_inputs, check_names, to_codes, to_real
from edgepack.runtimes.openvino_graph import Graph, execution_types
from edgepack.runtimes.protocol import Execution, Operator

if TYPE_CHECKING:
    from openvino import Core

_HEAD_BYTES = 512
_SOURCE_PLACE = re.compile(r" at src/\S+?:\d+:?")


class OpenVINO(Section):
    """OpenVINO with its latency hint, one stream and no model cache."""

    device: Literal["CPU", "GPU", "NPU"] = Field(
        default="CPU",
        description="Where the model runs; where this machine has no such device, on the CPU, and the report says so.",
    )
    inference_precision: Literal["f32", "f16", "bf16"] = Field(
        default="f32",
        description="What the float parts compute in. Left to itself, OpenVINO takes bf16 or f16 where the hardware has it.",
    )

    def open(self, path: Path, *, threads: int = 1, keep_tensors: bool = False) -> OpenVINOSession:
        """A session on a model.xml; model.bin lies beside it.

        Raises StageError for a file that is no IR, UnsupportedError for one that OpenVINO can't compile for the device.
        """
        core = _core()
        model = _read(core, path)
        _check_shapes(path, model)
        if self.device == "NPU" and any(port.get_partial_shape().is_dynamic for port in model.inputs):
            raise UnsupportedError(f"{path}: an NPU takes static shapes only; leave export.dynamic_batch out for it")
        graph = Graph(model)
        operators, outputs = graph.operators(), len(model.outputs)
        kept = graph.keep_tensors() if keep_tensors else None
        device, precision, notes = self._place(core)
        properties = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        if device == "CPU":
            # Pinned threads of two processes would share one core and leave the others idle.
            properties |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        try:
            compiled = core.compile_model(model, device, properties)
        except RuntimeError as exc:
            raise UnsupportedError(
                f"{path}: OpenVINO {version('openvino')} can't compile this model for the {device}: {_reason(exc)}"
            ) from exc
        types, told = execution_types(compiled)
        return OpenVINOSession(
            path,
            compiled,
            graph,
            outputs=outputs,
            operators=operators,
            kept=kept,
            execution=Execution(device=device, types=types, notes=(*notes, *told)),
        )

    def absent(self) -> str:
        return self._absent(_core())

    def _absent(self, core: Core) -> str:
        found = list(core.available_devices)
        if any(name.partition(".")[0] == self.device for name in found):
            return ""
        article = "an" if self.device == "NPU" else "a"
        return f"{article} {self.device}: OpenVINO finds only {', '.join(found)} here"

    def version(self) -> str:
        return version("openvino")

    def _place(self, core: Core) -> tuple[str, str, tuple[str, ...]]:
        """The device and precision that this machine has, and what is different from what was asked."""
        if absent := self._absent(core):
            return "CPU", "f32", (f"not run on {absent}; ran on the CPU in f32",)
        return self.device, self.inference_precision, ()


class OpenVINOSession:
    """A Session on one compiled model. Not for use by two threads at once."""

    def __init__(
        self,
        path: Path,
        compiled: Any,
        graph: Graph,
        *,
        outputs: int,
        operators: tuple[Operator, ...],
        kept: dict[str, int] | None,
        execution: Execution,
    ) -> None:
        self._path, self._kept, self._operators, self.execution = path, kept, operators, execution
        self._request = compiled.create_infer_request()
        self._has_run = False
        model = graph.model
        self._takes_batches = any(port.get_partial_shape().is_dynamic for port in model.inputs)
        self.inputs = tuple(
            _signature(node, node.output(0), grid)
            for node, grid in zip(model.get_parameters(), graph.input_grids, strict=True)
        )
        self.outputs = tuple(
            _signature(node, node.input_value(0), grid)
            for node, grid in zip(model.get_results()[:outputs], graph.output_grids, strict=True)
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See Session.run. A model with an open batch takes all samples at once."""
        samples = check_inputs(self._path, self.inputs, inputs)
        arrays = [np.ascontiguousarray(inputs[signature.name]) for signature in self.inputs]
        outputs = [np.empty((samples, *signature.shape[1:]), signature.dtype) for signature in self.outputs]
        at_once = max(samples, 1) if self._takes_batches else 1
        for first in range(0, samples, at_once):
            self._infer([array[first : first + at_once] for array in arrays])
            for index, array in enumerate(outputs):
                array[first : first + at_once] = self._request.get_output_tensor(index).data
        return {signature.name: array for signature, array in zip(self.outputs, outputs, strict=True)}

    def run_float(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See Session.run_float."""
        check_names(self._path, self.inputs, inputs)
        codes = {signature.name: to_codes(inputs[signature.name], signature) for signature in self.inputs}
        outputs = self.run(codes)
        return {signature.name: to_real(outputs[signature.name], signature) for signature in self.outputs}

    def tensors(self) -> dict[str, Array]:
        """See Session.tensors. What is computed in the middle of a fused integer kernel exists nowhere and is left out."""
        if self._kept is None:
            raise StageError(f"{self._path}: tensors were not kept; open the session with keep_tensors=True")
        if not self._has_run:
            raise StageError(f"{self._path}: no tensors yet; run the session first")
        tensors = {
            signature.name: to_real(self._request.get_input_tensor(index).data[-1:].copy(), signature)
            for index, signature in enumerate(self.inputs)
        }
        for name, position in self._kept.items():
            tensors[name] = self._request.get_output_tensor(position).data[-1:].astype(np.float32)
        return tensors

    def operators(self) -> tuple[Operator, ...]:
        """See Session.operators, and `openvino_graph` for what counts as one."""
        return self._operators

    def _infer(self, arrays: list[Array]) -> None:
        try:
            self._request.infer(arrays)
        except RuntimeError as exc:
            raise StageError(f"{self._path}: OpenVINO failed while running the model: {_reason(exc)}") from exc
        self._has_run = True


def _core() -> Core:
    try:
        return openvino_core()
    except ImportError as exc:
        raise EnvironmentProblem(f"OpenVINO can't be loaded ({exc}); install it with: pip install openvino") from exc


def _read(core: Core, path: Path) -> Any:
    if not path.is_file():
        raise StageError(f"{path}: no such model file")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if b"<net" not in head:  # OpenVINO would try its readers of six other formats
        raise StageError(f"{path}: not an OpenVINO IR (model.xml); convert the model again")
    try:
        return core.read_model(path)
    except RuntimeError as exc:
        if "operation with type" in str(exc):  # of a later OpenVINO
            raise UnsupportedError(
                f"{path}: OpenVINO {version('openvino')} can't run this model: {_reason(exc)}"
            ) from exc
        raise StageError(
            f"{path}: not a whole OpenVINO IR: {_reason(exc)}; {path.with_suffix('.bin').name} belongs beside it"
        ) from exc


def _check_shapes(path: Path, model: Any) -> None:
    for port in (*model.inputs, *model.outputs):
        batch, *others = port.get_partial_shape() or [None]
        is_one = batch is not None and (batch.is_dynamic or batch.get_length() == 1)
        if not is_one or any(size.is_dynamic for size in others):
            raise UnsupportedError(
                f"{path}: '{port.get_node().get_friendly_name()}' has shape {port.get_partial_shape()}; only models of batch size 1, or any, "
                "with all other dimensions fixed are supported"
            )


def _signature(node: Any, value: Any, grid: QuantParams | None) -> Signature:
    _, *others = value.get_partial_shape()
    return Signature(
        name=str(node.get_friendly_name()),
        # An open batch is told as 1, the least that it takes.
        shape=(1, *(size.get_length() for size in others)),
        dtype=value.get_element_type().to_dtype().name,
        quantization=grid,
    )


def _reason(exc: Exception) -> str:
    """OpenVINO's own words without the places in its source code."""
    lines = [_SOURCE_PLACE.sub("", line.strip()) for line in str(exc).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Exception from"))[:600]
