"""One measurement from beginning to end: the order of its steps decides what each number means."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from . import cores, memory
from .energy import NO_SENSOR, Meter, Sensor, find_sensor
from .errors import AgentError, not_opened
from .events import AGENT, Events
from .facts import device_facts, version_of
from .runtimes import runtime_class
from .state import device_state
from .virtual import clock

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_BLOCK_BYTES = 1 << 20


def measure(spec: dict[str, Any], events: Events) -> None:
    """Load, run once, warm up, run many times; then tell what the process needed and where it ran."""
    runtime = runtime_class(spec["runtime"])
    module, runtime_name, sensor = _begin(runtime, spec, events)
    from .inputs import Inputs
    from .loops import timed, without_collections

    threads, faults, not_reset = cores.thread_count(), memory.major_faults(), memory.reset_peak()
    used: dict[str, Any] = {"before_load_bytes": memory.resident_bytes(), "peak_not_reset": not_reset}
    start = time.perf_counter_ns()
    try:
        model = runtime.open(module, spec)
    except Exception as exc:  # each runtime has errors of its own
        raise not_opened(spec["model"], exc, runtime=runtime_name) from exc
    end: dict[str, Any] = {"load_ms": _ms_since(start)}
    used["after_load_bytes"] = memory.resident_bytes()
    inputs = Inputs(model, spec)
    end["first_ms"] = timed(model, inputs, 0) / 1e6
    used["after_first_bytes"] = memory.resident_bytes()
    without_collections()
    end.update(_run(model, inputs, spec if clock() == "ns" else _in_instructions(spec), events, sensor))
    used.update(after_run_bytes=memory.resident_bytes(), peak_bytes=memory.peak_bytes(), **memory.proportional())
    used["major_faults"] = memory.major_faults() - faults
    end.update(memory=used, execution=dict(cores.read_back(threads), **model.execution()))
    end["after"] = device_state(ask_services=True)
    if spec["outputs"]:
        inputs.write_outputs(spec["outputs"])
    events.tell("end", **end)


def _begin(runtime: Any, spec: dict[str, Any], events: Events) -> tuple[Any, str, Sensor | None]:
    """Import the runtime on the cores and with the threads that were asked for, and tell what is measured where.

    The runtime's module, its name with the version, and the sensor of energy, if there is one.
    """
    cores.pin(spec["cores"])
    for name in THREAD_VARIABLES:  # before NumPy and the runtime are imported: they read these once
        os.environ[name] = str(spec["threads"])
    start = time.perf_counter_ns()
    _import_numpy()
    module, package = runtime.find()
    identity = {"import_ms": _ms_since(start), "model_sha256": _checksum(spec["model"]), "threads": spec["threads"]}
    sensor, version = find_sensor(), version_of(package)
    facts = dict(device_facts(), runtime=package, runtime_version=version)
    if sensor is None:
        facts["missing"]["energy"] = NO_SENSOR
    before = device_state(ask_services=True)
    events.tell("start", agent=AGENT, pid=os.getpid(), environment=facts, before=before, **identity)
    return module, f"{package} {version}", sensor


def _in_instructions(spec: dict[str, Any]) -> dict[str, Any]:
    """Bounds in seconds mean nothing to a clock that counts instructions: the numbers of inferences remain, and the same work gives the same number."""
    return dict(spec, warmup_min_s=0.0, warmup_max_s=0.0, duration_min_s=0.0)


def _run(model: Any, inputs: Any, spec: dict[str, Any], events: Events, sensor: Sensor | None) -> dict[str, Any]:
    from .loops import Loops

    profile = spec["profile"]
    loops = Loops(model, inputs, events, max_s=spec["max_s"], after_each=model.after_each if profile else None)
    warm = {"min_iterations": spec["warmup_min_iterations"], "min_s": spec["warmup_min_s"]}
    counts = {"warmup": loops.warm_up(max_s=spec["warmup_max_s"], **warm)}
    if profile:
        model.begin_profile()
    meter = None if sensor is None else Meter(sensor)
    if meter is not None:
        meter.begin()
    counts["measured"] = loops.measure(min_iterations=spec["iterations_min"], min_s=spec["duration_min_s"])
    energy = None if meter is None else meter.end()
    events.flush()
    told = {"counts": counts, "stopped_early": loops.stopped_early, "warmup_stable": loops.stable, "energy": energy}
    return dict(told, profile=model.profile(counts["measured"])) if profile else told


def _import_numpy() -> None:
    try:
        import numpy  # noqa: F401
    except ImportError as exc:
        raise AgentError("python", f"this Python has no NumPy that works: install numpy ({exc})") from exc


def _checksum(path: str) -> str:
    """The file's SHA-256; reading it also brings it into the page cache, so that `load_ms` is a warm load."""
    found = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            for block in iter(lambda: file.read(_BLOCK_BYTES), b""):
                found.update(block)
    except OSError as exc:
        raise AgentError("model", f"{path}: can't be read: {exc.strerror}") from exc
    return found.hexdigest()


def _ms_since(start_ns: int) -> float:
    return (time.perf_counter_ns() - start_ns) / 1e6
