"""An .onnx file in ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from ..facts import version_of
from ..files import ROOT, read
from .shared import execution, fixed, imported

_KERNEL = "_kernel_time"


class OnnxRuntime:
    """An .onnx file. `providers` in order of preference; with `exact_sums` (None: on x86 CPUs without VNNI) sums of products can't overflow 16 bits."""

    CPU = "CPUExecutionProvider"
    OPTIONS: ClassVar[dict[str, Any]] = {"providers": [CPU], "provider_options": {}, "exact_sums": None}
    ON_GPU = ("CUDAExecutionProvider", "TensorrtExecutionProvider")

    @classmethod
    def python(cls, options: dict[str, Any]) -> str | None:
        """It has no interpreter of its own."""
        return None

    @classmethod
    def find(cls) -> tuple[Any, str]:
        """The module and its package's name. Raises AgentError when it can't be imported."""
        gpu = version_of("onnxruntime") == "unknown" and version_of("onnxruntime-gpu") != "unknown"
        return imported("onnxruntime", "onnxruntime-gpu" if gpu else "onnxruntime")

    @classmethod
    def accelerators(cls, module: Any) -> list[str]:
        """Its providers beside the CPU's. That one is listed doesn't mean that its hardware is there."""
        others = [name for name in module.get_available_providers() if name not in (cls.CPU, "AzureExecutionProvider")]
        return [f"onnxruntime: {name}" for name in others]

    @classmethod
    def open(cls, module: Any, spec: dict[str, Any]) -> OnnxRuntime:
        """The model, as the spec asks for it."""
        return cls(module, spec)

    def __init__(self, module: Any, spec: dict[str, Any]) -> None:
        options, settings = spec["options"], module.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = spec["threads"], 1
        # 4 is fatal: what it warns of, such as a provider that is not here, is told in `execution`.
        settings.log_severity_level = 4
        exact = options["exact_sums"]
        if exact or (exact is None and _lacks_vnni()):
            settings.add_session_config_entry("session.x64quantprecision", "1")
        if spec["profile"]:
            settings.enable_profiling = True
            settings.profile_file_prefix = (
                f"{spec['model']}.profile"  # beside the model: whoever removes that removes both
            )
        here = module.get_available_providers()
        usable = [name for name in options["providers"] if name in here and name != self.CPU]
        providers = [(name, options["provider_options"].get(name, {})) for name in (*usable, self.CPU)]
        self._session = module.InferenceSession(spec["model"], settings, providers=providers)
        self._asked, self._module, self._binding = options["providers"], module, self._session.io_binding()
        self._place = "cuda" if self._session.get_providers()[0] in self.ON_GPU else "cpu"
        for node in self._session.get_outputs():
            self._binding.bind_output(node.name, self._place)

    def execution(self) -> dict[str, Any]:
        """The provider that was asked for first among those that run; ONNX Runtime doesn't tell the types of its kernels."""
        running = self._session.get_providers()
        what = "not run on a GPU" if running[0] == self.CPU else f"not run by {self._asked[0]}"
        note = f"{what}: ONNX Runtime has no {self._asked[0]} that works here; ran on {running[0]}"
        notes = [note] if self._asked[0] not in running else []
        return execution(running[0], [], notes)

    def signature(self, kind: str) -> list[dict[str, Any]]:
        """Name, shape and dtype of all inputs or outputs in the model's order."""
        nodes = self._session.get_inputs() if kind == "input" else self._session.get_outputs()
        return [{"name": node.name, "shape": fixed(node.shape), "dtype": _dtype(node.type)} for node in nodes]

    def set(self, detail: dict[str, Any], value: Any) -> None:
        if self._place == "cpu":
            self._binding.bind_cpu_input(detail["name"], value)
        else:
            there = self._module.OrtValue.ortvalue_from_numpy(value, self._place, 0)
            self._binding.bind_ortvalue_input(detail["name"], there)

    def invoke(self) -> None:
        self._session.run_with_iobinding(self._binding)
        if self._place != "cpu":
            self._binding.synchronize_outputs()

    def get(self, detail: dict[str, Any]) -> Any:
        names = [node.name for node in self._session.get_outputs()]
        return self._binding.copy_outputs_to_cpu()[names.index(detail["name"])]

    def begin_profile(self) -> None:
        """Nothing: it writes down everything from the load on."""

    after_each = None

    def profile(self, inferences: int) -> list[dict[str, Any]]:
        """Nodes in the order of execution, over the last inferences. What it wrote down is read, then removed."""
        file = Path(self._session.end_profiling())
        events = json.loads(file.read_text(encoding="utf-8"))
        file.unlink()
        return node_times(events, inferences)


def node_times(events: list[dict[str, Any]], inferences: int) -> list[dict[str, Any]]:
    """The times of ONNX Runtime's own profile (Chrome's trace format, microseconds) of the last so many inferences."""
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    since = runs[-inferences:][0]
    nodes: dict[str, dict[str, Any]] = {}
    for event in sorted(events, key=lambda event: event["ts"]):
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL) and event["ts"] >= since:
            name = event["name"][: -len(_KERNEL)]
            row = nodes.setdefault(name, {"name": name, "kind": event["args"]["op_name"], "mean_ms": 0.0, "calls": 0})
            row["mean_ms"] += event["dur"] / 1e3 / len(runs[-inferences:])
            row["calls"] += 1
    return list(nodes.values())


def _dtype(kind: str) -> str:
    """tensor(float) → float32."""
    inner = kind[kind.find("(") + 1 : -1]
    return {"float": "float32", "double": "float64"}.get(inner, inner)


def _lacks_vnni() -> bool:
    """Whether this is an x86 CPU whose kernel lists no VNNI; False where nothing tells."""
    lines = (read(ROOT / "proc/cpuinfo") or "").splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "sse2" in flags and not {"avx512_vnni", "avx_vnni"} & set(flags)
