"""Measures one model in one fresh process: `python bench_agent.py spec.json` (or the spec on stdin) → JSON on stdout.

It is copied to the device as it is, one file (so a little longer than the house likes), and needs only the standard
library, NumPy and one runtime, and Python 3.9 to 3.13. docs/benchmarking.md says what each number means. On failure stdout holds {"error": {"kind",
"message"}} and the exit code is 1. Kinds: spec, model, runtime, inputs, inference.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import sys
import time
from array import array
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

DEFAULTS: dict[str, Any] = {
    "model": None,  # path of the model file; the one key that has no default
    "runtime": "litert",
    "options": None,  # of the runtime, as a target's [runtime_options]
    "threads": 1,
    "warmup_min_iterations": 10,
    "warmup_min_s": 0.0,
    "iterations_min": 50,
    "duration_min_s": 0.5,
    "max_s": 60.0,  # warm-up and measurement together stop here, after at least one timed inference
    "seed": 0,
    "inputs": None,  # {input name: .npy file of shape (N, …)}, used in turn; without it one random sample
    "outputs": None,  # .npz file that gets the outputs for all N samples of `inputs`, untimed
}
CHANGED = "EDGEPACK_AGENT_CHANGED_PYTHON"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class AgentError(Exception):
    """A failure that the caller is told: AgentError(kind, message)."""


class Runtime:
    """What every runtime here has: `OPTIONS` with their defaults, `find`, `execution`, `signature`, `set`, `invoke`, `get`."""

    OPTIONS: ClassVar[dict[str, Any]] = {}

    @classmethod
    def python(cls, options: dict[str, Any]) -> str | None:
        """Another interpreter that has this runtime where this one lacks it."""
        return None


class LiteRt(Runtime):
    """A .tflite file in ai_edge_litert, or in tflite_runtime where only that is installed."""

    PACKAGES: tuple[str, ...] = ("ai_edge_litert", "tflite_runtime")

    @classmethod
    def find(cls) -> tuple[Any, str]:
        """The interpreter module and its package's name. Raises AgentError when none can be imported."""
        reasons = []
        for package in cls.PACKAGES:
            try:
                return importlib.import_module(package + ".interpreter"), package
            except ImportError as exc:
                reasons.append(str(exc))
        known = " or ".join(package.replace("_", "-") for package in cls.PACKAGES)
        raise AgentError("runtime", f"install {known}: " + "; ".join(reasons))

    def __init__(self, module: Any, path: str, threads: int, options: dict[str, Any]) -> None:
        self._interpreter = module.Interpreter(model_path=path, num_threads=threads)
        self._interpreter.allocate_tensors()
        self.invoke = self._interpreter.invoke

    def execution(self) -> dict[str, Any]:
        """Operators by the type of their first output, in which the kernels compute; a delegate's node is none."""
        import numpy as np

        names = {detail["index"]: np.dtype(detail["dtype"]).name for detail in self._interpreter.get_tensor_details()}
        every = [details for details in self._interpreter._get_ops_details() if details["op_name"] != "DELEGATE"]
        return _execution("CPU", [_short(names[int(details["outputs"][0])]) for details in every])

    def signature(self, kind: str) -> list[dict[str, Any]]:
        """The details of all 'input' or 'output' tensors in the model's order, named as its signature names them."""
        details: list[dict[str, Any]] = getattr(self._interpreter, f"get_{kind}_details")()
        if len(self._interpreter.get_signature_list()) != 1:
            return details
        runner = self._interpreter.get_signature_runner()
        named = getattr(runner, f"get_{kind}_details")()
        names = {detail["index"]: name for name, detail in named.items()}
        return [dict(detail, name=names.get(detail["index"], detail["name"])) for detail in details]

    def set(self, detail: dict[str, Any], value: Any) -> None:
        self._interpreter.set_tensor(detail["index"], value)

    def get(self, detail: dict[str, Any]) -> Any:
        return self._interpreter.get_tensor(detail["index"])


class TfliteRuntime(LiteRt):
    """A .tflite file in tflite_runtime, never in its successor, which has another name. (`timeout_s` is for who asks.)"""

    OPTIONS: ClassVar[dict[str, Any]] = {"python": None, "timeout_s": None}
    PACKAGES = ("tflite_runtime",)

    @classmethod
    def python(cls, options: dict[str, Any]) -> str | None:
        """On a board this Python has it. On a computer with a newer one it lives apart: as for edgepack's own runtime of that name."""
        if importlib.util.find_spec("tflite_runtime"):
            return None
        beside = str(Path(sys.prefix, "tflite-runtime", "bin", "python"))
        named = (options["python"], os.environ.get("EDGEPACK_TFLITE_RUNTIME_PYTHON"), beside)
        return next((found for found in map(shutil.which, filter(None, named)) if found), None)


class OnnxRuntime(Runtime):
    """An .onnx file. `providers` in order of preference; with `exact_sums` (None: on x86 CPUs without VNNI) sums of products can't overflow 16 bits."""

    CPU = "CPUExecutionProvider"
    OPTIONS: ClassVar[dict[str, Any]] = {"providers": [CPU], "provider_options": {}, "exact_sums": None}
    ON_GPU = ("CUDAExecutionProvider", "TensorrtExecutionProvider")

    @classmethod
    def find(cls) -> tuple[Any, str]:
        """The module and its package's name. Raises AgentError when it can't be imported."""
        return _found("onnxruntime", "onnxruntime" if _version_of("onnxruntime") != "unknown" else "onnxruntime-gpu")

    def __init__(self, module: Any, path: str, threads: int, options: dict[str, Any]) -> None:
        settings = module.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
        settings.log_severity_level = (
            4  # fatal: what it warns of, such as a provider that is not here, is told in `execution`
        )
        exact = options["exact_sums"]
        if exact or (exact is None and _lacks_vnni()):
            settings.add_session_config_entry("session.x64quantprecision", "1")
        here = module.get_available_providers()
        usable = [name for name in options["providers"] if name in here and name != self.CPU]
        providers = [(name, options["provider_options"].get(name, {})) for name in (*usable, self.CPU)]
        self._session = module.InferenceSession(path, settings, providers=providers)
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
        return _execution(running[0], [], notes)

    def signature(self, kind: str) -> list[dict[str, Any]]:
        """Name, shape and dtype of all inputs or outputs in the model's order."""
        nodes = self._session.get_inputs() if kind == "input" else self._session.get_outputs()
        return [{"name": node.name, "shape": _fixed(node.shape), "dtype": _onnx_dtype(node.type)} for node in nodes]

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


class OpenVino(Runtime):
    """An OpenVINO IR: model.xml with model.bin beside it, one stream, for latency; float parts in f32 unless told otherwise."""

    OPTIONS: ClassVar[dict[str, Any]] = {"device": "CPU", "inference_precision": "f32"}

    @classmethod
    def find(cls) -> tuple[Any, str]:
        """The module and its package's name. Raises AgentError when it can't be imported."""
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would send an event on import
        return _found("openvino", "openvino")

    def __init__(self, module: Any, path: str, threads: int, options: dict[str, Any]) -> None:
        core = module.Core()
        self._module, self._asked, self._here = module, options["device"], list(core.available_devices)
        there = any(name.partition(".")[0] == self._asked for name in self._here)
        self._device = self._asked if there else "CPU"
        precision = options["inference_precision"] if there else "f32"
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        if self._device == "CPU":
            # Pinned threads of two processes would share one core and leave the others idle.
            settings.update({"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False})
        self._model = core.read_model(path)
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
        return _execution(self._device, types, notes)

    def signature(self, kind: str) -> list[dict[str, Any]]:
        """Index, name, shape and dtype of all inputs or outputs in the model's order."""
        nodes = self._model.get_parameters() if kind == "input" else self._model.get_results()
        ports = [node.output(0) if kind == "input" else node.input_value(0) for node in nodes]
        return [
            {
                "index": index,
                "name": node.get_friendly_name(),
                "shape": _fixed([None if size.is_dynamic else size.get_length() for size in port.get_partial_shape()]),
                "dtype": port.get_element_type().to_dtype(),
            }
            for index, (node, port) in enumerate(zip(nodes, ports))  # noqa: B905 - Python 3.9
        ]

    def set(self, detail: dict[str, Any], value: Any) -> None:
        self._request.set_input_tensor(detail["index"], self._module.Tensor(value, shared_memory=True))

    def invoke(self) -> None:
        self._request.infer(None, share_inputs=True, share_outputs=True)

    def get(self, detail: dict[str, Any]) -> Any:
        return self._request.get_output_tensor(detail["index"]).data.copy()


RUNTIMES: dict[str, Any] = {
    "litert": LiteRt,
    "tflite_runtime": TfliteRuntime,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}


def _found(module: str, package: str) -> tuple[Any, str]:
    try:
        return importlib.import_module(module), package
    except ImportError as exc:
        raise AgentError("runtime", f"install {package}: {exc}") from exc


def _execution(device: str, types: list[str], notes: list[str] | None = None) -> dict[str, Any]:
    return {"device": device, "types": {name: types.count(name) for name in sorted(set(types))}, "notes": notes or []}


def _short(dtype: str) -> str:
    """int8 → i8, as OpenVINO writes types."""
    return re.sub(r"^([iuf])[a-z]*(?=\d)", r"\1", dtype)


def _kernel_type(precision: str, kernel: str) -> str:
    """What an OpenVINO kernel computes in: the end of its name ('brgconv_avx512_I8'). `precision` is that of its first input."""
    end = kernel.rpartition("_")[2].lower()
    if end == "i8":
        return precision if precision in ("i8", "u8") else end
    return end if end in ("f32", "f16", "bf16") else precision


def _onnx_dtype(kind: str) -> str:
    """tensor(float) → float32."""
    inner = kind[kind.find("(") + 1 : -1]
    return {"float": "float32", "double": "float64"}.get(inner, inner)


def _lacks_vnni() -> bool:
    """Whether this is an x86 CPU whose kernel lists no VNNI; False where nothing tells."""
    lines = "".join(_read("/proc", "cpuinfo")).splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "sse2" in flags and not {"avx512_vnni", "avx_vnni"} & set(flags)


def _fixed(shape: Any) -> tuple[int, ...]:
    """A shape with 1 for an open batch. Another open dimension is 0, which fits no sample, so that samples must be given."""
    sizes = [size if isinstance(size, int) else None for size in shape]
    return tuple((1 if axis == 0 else 0) if size is None else size for axis, size in enumerate(sizes))


def main(argv: list[str]) -> int:
    """Answer one spec; 0 when it was measured, else 1."""
    answer_file = os.fdopen(os.dup(1), "w")
    try:
        spec = read_spec(argv)
        change_python(spec, argv)
        os.dup2(2, 1)  # what a runtime prints to stdout must not end up in the JSON
        answer = measure(spec)
    except AgentError as exc:
        answer = {"error": {"kind": exc.args[0], "message": exc.args[1]}}
    except Exception as exc:  # noqa: BLE001 - the process's border: whatever failed is told as JSON, with exit code 1
        answer = {"error": {"kind": "inference", "message": f"{type(exc).__name__}: {exc}"}}
    with answer_file:
        json.dump(answer, answer_file)
    return 1 if "error" in answer else 0


def read_spec(argv: list[str]) -> dict[str, Any]:
    """The spec with its defaults filled in. Raises AgentError for unreadable JSON and unknown keys."""
    try:
        given = json.loads(Path(argv[1]).read_text(encoding="utf-8") if len(argv) > 1 else sys.stdin.read())
    except (OSError, ValueError) as exc:
        raise AgentError("spec", f"the spec can't be read: {exc}") from exc
    if not isinstance(given, dict) or not isinstance(given.get("model"), str):
        raise AgentError("spec", "the spec must be a JSON object with the key 'model'")
    if unknown := sorted(set(given) - set(DEFAULTS)):
        raise AgentError("spec", f"unknown keys {unknown} (known: {sorted(DEFAULTS)})")
    if given.get("runtime", DEFAULTS["runtime"]) not in RUNTIMES:
        raise AgentError("spec", f"unknown runtime {given['runtime']!r} (known: {sorted(RUNTIMES)})")
    known = RUNTIMES[given.get("runtime", DEFAULTS["runtime"])].OPTIONS
    options = given.get("options") or {}
    if unknown := sorted(set(options) - set(known)):
        raise AgentError("spec", f"unknown options {unknown} (known: {sorted(known)})")
    return dict(DEFAULTS, **dict(given, options=dict(known, **options)))


def change_python(spec: dict[str, Any], argv: list[str]) -> None:
    """Go on as another interpreter where only that has the runtime. Once: what lacks it, too, says so."""
    python = RUNTIMES[spec["runtime"]].python(spec["options"])
    if python is not None and len(argv) > 1 and CHANGED not in os.environ:
        os.environ[CHANGED] = "1"
        os.execv(python, [python, "-I", *argv])


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Load, run once, warm up, run many times; then say what the process needed and where it ran."""
    for name in THREAD_VARIABLES:  # before NumPy and the runtime are imported: they read these once
        os.environ[name] = str(spec["threads"])
    runtime = RUNTIMES[spec["runtime"]]
    module, package = runtime.find()
    environment = dict(device_facts(), runtime=package, runtime_version=_version_of(package))
    try:  # reading also brings the file into the page cache: load_ms is a warm load
        sha256 = hashlib.sha256(Path(spec["model"]).read_bytes()).hexdigest()
    except OSError as exc:
        raise AgentError("model", f"{spec['model']}: can't be read: {exc.strerror}") from exc
    before, not_reset, faults = device_state(), _reset_peak(), _major_faults()
    memory: dict[str, Any] = {"before_load_bytes": _memory()[0], "peak_not_reset": not_reset}

    start = time.perf_counter_ns()
    try:
        model = runtime(module, spec["model"], spec["threads"], spec["options"])
    except Exception as exc:  # each runtime has errors of its own
        raise AgentError("model", f"{spec['model']}: the runtime can't open it: {exc}") from exc
    timing: dict[str, Any] = {"load_ms": (time.perf_counter_ns() - start) / 1e6}
    memory["after_load_bytes"] = _memory()[0]
    inputs = Inputs(model, spec)
    timing["first_ms"] = _timed(model, inputs, 0) / 1e6
    memory["after_first_bytes"] = _memory()[0]
    timing["warmup_ns"], timing["samples_ns"], timing["stopped_early"] = _loops(model, inputs, spec)
    memory["after_run_bytes"], memory["peak_bytes"] = _memory()
    memory["major_faults"] = _major_faults() - faults
    state = {"before": before, "after": device_state()}

    if spec["outputs"]:
        inputs.write_outputs(spec["outputs"])
    identity = {"agent": 1, "model_sha256": sha256, "threads": spec["threads"]}
    told = {"memory": memory, "environment": environment, "execution": model.execution()}
    return {**identity, **timing, **state, **told}


def _loops(model: Any, inputs: Inputs, spec: dict[str, Any]) -> tuple[list[int], list[int], bool]:
    """Warm-up samples, measured samples, and whether max_s cut one of the two loops short."""
    gc.collect()
    gc.disable()  # a collection in the middle of a sample is Python's time, not the model's
    deadline = time.perf_counter() + spec["max_s"]

    def loop(min_iterations: int, min_s: float, least: int) -> tuple[list[int], bool]:
        samples = array("q")  # 8 bytes a sample, so that many samples don't show in the peak memory
        start = now = time.perf_counter()
        while len(samples) < min_iterations or now - start < min_s:
            if now >= deadline and len(samples) >= least:
                return samples.tolist(), True
            samples.append(_timed(model, inputs, len(samples)))
            now = time.perf_counter()
        return samples.tolist(), False

    warmup, warmup_cut = loop(spec["warmup_min_iterations"], spec["warmup_min_s"], 0)
    samples, samples_cut = loop(max(1, spec["iterations_min"]), spec["duration_min_s"], 1)
    return warmup, samples, warmup_cut or samples_cut


def _timed(model: Any, inputs: Inputs, position: int) -> int:
    """Nanoseconds of one inference; copying the sample in is not part of it."""
    inputs.set(position)
    start = time.perf_counter_ns()
    model.invoke()
    return time.perf_counter_ns() - start


class Inputs:
    """The samples: those given, one after another, or a random one."""

    def __init__(self, model: Any, spec: dict[str, Any]) -> None:
        import numpy as np

        self._model, self._details, given = model, model.signature("input"), spec["inputs"]
        if given:
            if set(given) != {detail["name"] for detail in self._details}:
                names = [detail["name"] for detail in self._details]
                raise AgentError("inputs", f"the model's inputs are {names}; files were given for {sorted(given)}")
            self._arrays = [_load_samples(detail, given[detail["name"]]) for detail in self._details]
        else:
            generator = np.random.default_rng(spec["seed"])
            self._arrays = [_random_sample(generator, detail) for detail in self._details]
        self._count = len(self._arrays[0])
        if any(len(values) != self._count for values in self._arrays):
            raise AgentError("inputs", f"the inputs {sorted(given)} have different numbers of samples")

    def set(self, position: int) -> None:
        for detail, values in zip(self._details, self._arrays):  # noqa: B905 - zip(strict=) needs Python 3.10
            self._model.set(detail, values[position % self._count])

    def write_outputs(self, path: str) -> None:
        """Run every sample once and write each output, stacked along its batch dimension, under its name."""
        import numpy as np

        details = self._model.signature("output")
        outputs: dict[str, list[Any]] = {detail["name"]: [] for detail in details}
        for position in range(self._count):
            self.set(position)
            self._model.invoke()
            for detail in details:
                outputs[detail["name"]].append(self._model.get(detail))
        stacked: dict[str, Any] = {name: np.concatenate(values) for name, values in outputs.items()}
        with Path(path).open("wb") as file:  # np.savez would add .npz to a name
            np.savez(file, **stacked)


def _load_samples(detail: dict[str, Any], path: str) -> Any:
    import numpy as np

    try:
        samples = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise AgentError("inputs", f"{path}: can't be read: {exc}") from exc
    shape, dtype = tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"])
    fits = samples.ndim == len(shape) and all(b in (0, a) for a, b in zip(samples.shape[1:], shape[1:]))  # noqa: B905
    if not fits or samples.dtype != dtype or not len(samples) or shape[0] != 1:
        found = f"{samples.dtype} {samples.shape}"
        raise AgentError("inputs", f"{path}: has {found}; the model takes {dtype} {shape}, one at a time")
    return samples[:, None]


def _random_sample(generator: Any, detail: dict[str, Any]) -> Any:
    """One sample: normal for floats, uniform over all values for 8 bits, else 0 and 1, which fit as indices and flags."""
    import numpy as np

    shape, dtype = (1, *(int(size) for size in detail["shape"])), np.dtype(detail["dtype"])
    if 0 in shape:
        raise AgentError("inputs", f"input {detail['name']!r} has open dimensions: give samples for it")
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind not in "iub":
        raise AgentError("inputs", f"input {detail['name']!r} has type {dtype}: give samples for it")
    if dtype.kind == "b" or dtype.itemsize > 1:
        return generator.integers(0, 2, shape).astype(dtype)
    return generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def device_facts() -> dict[str, Any]:
    """What stays the same during a session. A value that this device doesn't tell is null; `missing` says why."""
    facts = {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu_model": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "usable_cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "numpy": _version_of("numpy"),
        "timer_resolution_ns": time.get_clock_info("perf_counter").resolution * 1e9,
    }
    return _with_reasons(facts, cpu_model="not in /proc/cpuinfo")


def device_state() -> dict[str, Any]:
    """What changes: load average (1 min), the cores' governors and frequencies, the hottest thermal zone."""
    governors = set(_read("/sys/devices/system/cpu", "cpu[0-9]*/cpufreq/scaling_governor"))
    kilohertz = _read("/sys/devices/system/cpu", "cpu[0-9]*/cpufreq/scaling_cur_freq")
    millidegrees = _read("/sys/class/thermal", "thermal_zone*/temp")
    state: dict[str, Any] = {
        "load_average": os.getloadavg()[0],
        "governor": ", ".join(sorted(governors)) or None,
        "frequencies_mhz": [int(value) / 1e3 for value in kilohertz] or None,
        "temperature_c": max((int(value) / 1e3 for value in millidegrees), default=None),
    }
    no_cpufreq = "no cpufreq in /sys (a virtual machine?)"
    no_thermal = "no thermal zone in /sys (a virtual machine?)"
    return _with_reasons(state, governor=no_cpufreq, frequencies_mhz=no_cpufreq, temperature_c=no_thermal)


def _with_reasons(values: dict[str, Any], **reasons: str) -> dict[str, Any]:
    return dict(values, missing={name: reason for name, reason in reasons.items() if values[name] is None})


def _cpu_model() -> str | None:
    """x86 kernels name the CPU; Arm kernels give numbers of its designer and part."""
    values: dict[str, str] = {}
    for line in "".join(_read("/proc", "cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    if "CPU part" in values:
        return f"Arm implementer {values.get('CPU implementer')} part {values['CPU part']}"
    return values.get("model name")


def _reset_peak() -> str | None:
    """Set VmHWM back to the present RSS (proc_pid_clear_refs(5), value 5). None, or why it was not possible."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError as exc:
        return f"/proc/self/clear_refs: {exc.strerror}: the peak includes the imports"
    return None


def _memory() -> tuple[int, int]:
    """Resident bytes now, and at most since the last reset (VmRSS and VmHWM of proc_pid_status(5))."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return int(lines["VmRSS"].split()[0]) * 1024, int(lines["VmHWM"].split()[0]) * 1024


def _major_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


def _version_of(package: str) -> str:
    try:
        return metadata.version(package.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return "unknown"


def _read(folder: str, pattern: str) -> list[str]:
    """The contents of the files that match; a sensor that exists and can't be read is left out."""
    contents = []
    for file in sorted(Path(folder).glob(pattern)):
        with contextlib.suppress(OSError):
            contents.append(file.read_text(encoding="utf-8", errors="replace").strip())
    return [content for content in contents if content]


if __name__ == "__main__":
    sys.exit(main(sys.argv))
