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
import json
import os
import platform
import resource
import sys
import time
from array import array
from importlib import metadata
from pathlib import Path
from typing import Any

DEFAULTS: dict[str, Any] = {
    "model": None,  # path of the model file; the one key that has no default
    "runtime": "litert",
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
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class AgentError(Exception):
    """A failure that the caller is told: AgentError(kind, message)."""


class LiteRt:
    """A .tflite file in ai_edge_litert, or in tflite_runtime where only that is installed."""

    @classmethod
    def find(cls) -> tuple[Any, str]:
        """The interpreter module and its package's name. Raises AgentError when neither can be imported."""
        reasons = []
        for package in ("ai_edge_litert", "tflite_runtime"):
            try:
                return importlib.import_module(package + ".interpreter"), package
            except ImportError as exc:
                reasons.append(str(exc))
        raise AgentError("runtime", "install ai-edge-litert (or tflite-runtime): " + "; ".join(reasons))

    def __init__(self, module: Any, path: str, threads: int) -> None:
        try:
            self._interpreter = module.Interpreter(model_path=path, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as exc:
            raise AgentError("model", f"{path}: the runtime can't open it: {exc}") from exc
        self.invoke = self._interpreter.invoke

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


RUNTIMES: dict[str, Any] = {"litert": LiteRt}


def main(argv: list[str]) -> int:
    """Answer one spec; 0 when it was measured, else 1."""
    answer_file = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a runtime prints to stdout must not end up in the JSON
    try:
        answer = measure(read_spec(argv))
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
    return dict(DEFAULTS, **given)


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
    model = runtime(module, spec["model"], spec["threads"])
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
    return {**identity, **timing, **state, "memory": memory, "environment": environment}


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
    if samples.shape[1:] != shape[1:] or samples.dtype != dtype or not len(samples) or shape[0] != 1:
        found = f"{samples.dtype} {samples.shape}"
        raise AgentError("inputs", f"{path}: has {found}; the model takes {dtype} {shape}, one at a time")
    return samples[:, None]


def _random_sample(generator: Any, detail: dict[str, Any]) -> Any:
    """One sample: normal for floats, uniform over all values for 8 bits, else 0 and 1, which fit as indices and flags."""
    import numpy as np

    shape, dtype = (1, *(int(size) for size in detail["shape"])), np.dtype(detail["dtype"])
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
