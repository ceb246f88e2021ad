"""An OpenVINO IR in OpenVINO."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from .shared import execution, fixed, imported


class OpenVino:
    """An OpenVINO IR: model.xml with model.bin beside it, one stream, for latency; float parts in f32 unless told otherwise."""

    OPTIONS: ClassVar[dict[str, Any]] = {"device": "CPU", "inference_precision": "f32"}

    @classmethod
    def python(cls, options: dict[str, Any]) -> str | None:
        """It has no interpreter of its own."""
        return None

    @classmethod
    def find(cls) -> tuple[Any, str]:
        """The module and its package's name. Raises AgentError when it can't be imported."""
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would send an event on import
        return imported("openvino", "openvino")

    @classmethod
    def accelerators(cls, module: Any) -> list[str]:
        """The devices that it finds beside the CPU."""
        return [f"openvino: {name}" for name in module.Core().available_devices if name != "CPU"]

    @classmethod
    def open(cls, module: Any, spec: dict[str, Any]) -> OpenVino:
        """The model, as the spec asks for it."""
        return cls(module, spec)

    def __init__(self, module: Any, spec: dict[str, Any]) -> None:
        options, core = spec["options"], module.Core()
        self._module, self._asked, self._here = module, options["device"], list(core.available_devices)
        there = any(name.partition(".")[0] == self._asked for name in self._here)
        self._device = self._asked if there else "CPU"
        precision = options["inference_precision"] if there else "f32"
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        if self._device == "CPU":
            # Pinned threads of two processes would share one core and leave the others idle.
            settings.update({"INFERENCE_NUM_THREADS": spec["threads"], "ENABLE_CPU_PINNING": False})
        if spec["profile"]:
            settings["PERF_COUNT"] = True
        self._times: dict[str, dict[str, Any]] = {}
        self._model = core.read_model(spec["model"])
        self._compiled = core.compile_model(self._model, self._device, settings)
        self._request = self._compiled.create_infer_request()

    def execution(self) -> dict[str, Any]:
        """The device, and executed nodes by the type of their kernels; inputs, outputs and what comes from constants alone left out."""
        types, live = [], set()
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            info = {
                name: node.get_rt_info()[name].astype(str)
                for name in ("layerType", "runtimePrecision", "primitiveType")
            }
            if info["layerType"] == "Input" or any(one.get_node().get_name() in live for one in node.input_values()):
                live.add(node.get_name())
                if info["layerType"] not in ("Input", "Output"):
                    types.append(_kernel_type(info["runtimePrecision"], info["primitiveType"]))
        notes = [] if self._device == self._asked else [f"not run on {self._asked}: OpenVINO finds {self._here} here"]
        told = execution(self._device, types, notes)
        if self._device == "CPU":  # it also has threads that compile and wait, so those of the process tell nothing
            told["threads"] = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))
        return told

    def signature(self, kind: str) -> list[dict[str, Any]]:
        """Index, name, shape and dtype of all inputs or outputs in the model's order."""
        nodes = self._model.get_parameters() if kind == "input" else self._model.get_results()
        ports = [node.output(0) if kind == "input" else node.input_value(0) for node in nodes]
        return [
            {
                "index": index,
                "name": node.get_friendly_name(),
                "shape": fixed([None if size.is_dynamic else size.get_length() for size in port.get_partial_shape()]),
                "dtype": port.get_element_type().to_dtype(),
            }
            for index, (node, port) in enumerate(zip(nodes, ports))
        ]

    def set(self, detail: dict[str, Any], value: Any) -> None:
        self._request.set_input_tensor(detail["index"], self._module.Tensor(value, shared_memory=True))

    def invoke(self) -> None:
        self._request.infer(None, share_inputs=True, share_outputs=True)

    def get(self, detail: dict[str, Any]) -> Any:
        return self._request.get_output_tensor(detail["index"]).data.copy()

    def begin_profile(self) -> None:
        """Nothing: every inference is timed."""

    def after_each(self) -> None:
        """Add the last inference's times to the sums; nodes that did not run, because they were fused or folded, are left out."""
        for one in self._request.get_profiling_info():
            if one.status == one.Status.EXECUTED:
                row = self._times.setdefault(
                    one.node_name, {"name": one.node_name, "kind": one.node_type, "mean_ms": 0.0, "calls": 0}
                )
                row["mean_ms"] += one.real_time.total_seconds() * 1e3
                row["calls"] += 1

    def profile(self, inferences: int) -> list[dict[str, Any]]:
        """Nodes in the order of execution."""
        return [dict(row, mean_ms=row["mean_ms"] / inferences) for row in self._times.values()]


def _kernel_type(precision: str, kernel: str) -> str:
    """What an OpenVINO kernel computes in: the end of its name ('brgconv_avx512_I8'). `precision` is that of its first input."""
    end = kernel.rpartition("_")[2].lower()
    if end == "i8":
        return precision if precision in ("i8", "u8") else end
    return end if end in ("f32", "f16", "bf16") else precision
