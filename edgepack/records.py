"""The nouns of a benchmark: what a device reports of one process, and the run that is kept of it. docs/benchmarking.md says what each number means.

`devices/agent.py` reads them from the agent's answer, `bench.py` makes runs of them, `store/` keeps them, `report/`, `compare` and `gate` read them.
A value that a device doesn't tell is None, and `missing` of the same record says why.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgepack.core.digest import digest_of

Status = Literal["complete", "partial", "void", "failed"]
Clock = Literal["ns", "guest_instructions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Memory of the whole process, in bytes; the peak (VmHWM) counts from just before the load.

    `pss_bytes` is the proportional set size after the last inference, None for a reason in `missing`. `peak_not_reset` says why the peak counts
    from the process's start instead, so with the imports; else None.
    """

    before_load_bytes: int
    after_load_bytes: int
    after_first_bytes: int
    after_run_bytes: int
    peak_bytes: int
    major_faults: int
    peak_not_reset: str | None
    pss_bytes: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What changes on a device. `at_s` is seconds since the process began; `wall_s` is the device's wall clock (seconds since the epoch).

    `throttled` is whether the system says that it holds the CPU back now; `throttle_count` how often it did since boot;
    `thermal_status` is Android's, 0 (none) to 6 (shutdown).
    """

    load_average: float
    governor: str | None
    frequencies_mhz: tuple[float, ...] | None
    temperature_c: float | None
    at_s: float = 0.0
    wall_s: float | None = None
    throttled: bool | None = None
    throttle_count: int | None = None
    free_memory_bytes: int | None = None
    battery_percent: float | None = None
    charging: bool | None = None
    thermal_status: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What stays the same on a device.

    `emulated` names the emulator, where the device is one ('QEMU'), else None. `clock` is what a sample counts: nanoseconds, or instructions of the
    guest where an emulator's clock advances by one for each (`-icount shift=0`), which are a proxy and never a latency. `boot_id` tells reboots apart.
    """

    system: str
    kernel: str
    machine: str
    cpu_model: str | None
    cores: int
    usable_cores: int
    python: str
    numpy: str
    timer_resolution_ns: float
    runtime: str
    runtime_version: str
    os_name: str | None = None
    libc: str | None = None
    soc: str | None = None
    memory_bytes: int | None = None
    boot_id: str | None = None
    emulated: str | None = None
    clock: Clock = "ns"
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What ran, as the runtime tells it: the device or provider, operators by the type they compute in, what differs from what was asked.

    `threads` and `affinity` (core numbers) are read back from the process; `delegate` took `delegated_nodes` of `nodes` operators.
    """

    device: str
    types: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    threads: int | None = None
    affinity: tuple[int, ...] | None = None
    delegate: str | None = None
    delegated_nodes: int | None = None
    nodes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of the measured window, in joules, integrated over a sensor's readings: of the whole device, not of the process."""

    joules: float
    window_s: float
    sensor: str
    rate_hz: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """One operator of a profile: its name in the file, its kind, mean milliseconds an inference, how often it was timed.

    `source_layer` is the layer's name in the source model, None where the file's name leads to none.
    """

    name: str
    kind: str
    mean_ms: float
    calls: int
    source_layer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReport:
    """What one process measured: every sample of one inference, warm-up apart, first inference apart.

    Samples are nanoseconds, or guest instructions where `environment.clock` says so. `before`, `during` and `after` are the device's state.
    `warmup_stable` is whether the warm-up ended because samples had become stable, not by its bound.
    """

    agent: int
    model_sha256: str
    threads: int
    load_ms: float
    first_ms: float
    warmup_ns: tuple[int, ...]
    samples_ns: tuple[int, ...]
    stopped_early: bool
    memory: MemoryUse
    environment: Environment
    execution: Execution
    before: DeviceState
    after: DeviceState
    during: tuple[DeviceState, ...] = ()
    import_ms: float | None = None
    warmup_stable: bool | None = None
    energy: Energy | None = None
    profile: tuple[LayerTime, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceName:
    """Which device: the transport's name and the device's own; never an address or a person."""

    transport: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was measured: a model file of a bundle ('bundle'), or its float model ('float'), in a runtime with options."""

    label: str
    model_sha256: str
    size_bytes: int
    runtime: str
    runtime_options: Mapping[str, Any] = field(default_factory=dict)
    bundle: str | None = None
    version: str | None = None
    target: str | None = None
    bundle_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What two results must have in common to be compared, beside the device and the runtime with its version.

    `protocol` holds every bound of the suite; `inputs_sha256` is of the samples that were fed, None for a random one from a seed.
    """

    suite: str
    protocol: Mapping[str, Any]
    threads: int
    affinity: tuple[int, ...] | None = None
    inputs_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The metric on the device. `correct` says for each sample whether the model was right; `inputs_sha256` is of the preprocessed bytes.

    `agreement` is the share of samples with the same class as on the machine that verified the bundle, None where that is not known;
    `max_steps` the largest difference from its outputs in output quantization steps.
    """

    metric: str
    value: float
    correct: tuple[bool, ...]
    inputs_sha256: str
    agreement: float | None = None
    max_steps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One process on one device, with all that it measured.

    `bench` is the invocation's own id (a UUID), `round` and `position` the place in its order, `attempt` counts from 1: a retried run has the same `key`. `started_at` is UTC, ISO 8601,
    by the host's clock. A 'partial' run was cut off: `samples_ns` holds what had come home, `report` is None, `reason` says what happened. A 'void' run
    broke a rule on the device's state that was fixed beforehand. Neither counts in a comparison.
    """

    bench: str
    device: DeviceName
    subject: Subject
    conditions: Conditions
    round: int
    position: int
    attempt: int
    started_at: str
    status: Status
    report: AgentReport | None
    reason: str | None = None
    samples_ns: tuple[int, ...] = ()
    accuracy: Accuracy | None = None

    @property
    def key(self) -> str:
        """The unique key of the result, the same for every attempt at it."""
        device, subject = self.device, self.subject
        place = [device.transport, device.name, subject.label, subject.model_sha256, self.round, self.position]
        return digest_of([self.bench, *place])

    @property
    def metrics(self) -> dict[str, float]:
        """The run's numbers by name; a latency only where the clock counts time on a device that is not emulated."""
        if self.report is None:
            return {}
        return metrics_of(self.report, size_bytes=self.subject.size_bytes, accuracy=self.accuracy)


# In which direction a metric is better, its unit, and whether it is a proxy.
METRICS: Mapping[str, tuple[Literal["lower", "higher"], str]] = {
    "latency_p50_ms": ("lower", "ms"),
    "latency_p90_ms": ("lower", "ms"),
    "latency_p99_ms": ("lower", "ms"),
    "emulated_p50_ms": ("lower", "ms of an emulator"),
    "emulated_p90_ms": ("lower", "ms of an emulator"),
    "guest_instructions": ("lower", "instructions (a proxy, no latency)"),
    "load_ms": ("lower", "ms"),
    "first_ms": ("lower", "ms"),
    "peak_memory_bytes": ("lower", "bytes"),
    "model_memory_bytes": ("lower", "bytes"),
    "size_bytes": ("lower", "bytes"),
    "energy_mj": ("lower", "mJ an inference"),
    "accuracy": ("higher", "share"),
}


def metrics_of(report: AgentReport, *, size_bytes: int, accuracy: Accuracy | None = None) -> dict[str, float]:
    """A process's numbers by the names of METRICS. Percentiles are Hyndman-Fan type 7; p99 from 662 samples on (MLPerf Inference)."""
    import numpy as np

    from edgepack.stats import P99_SAMPLES_MIN

    samples = report.samples_ns
    found: dict[str, float] = {"size_bytes": float(size_bytes)}
    if report.environment.clock == "guest_instructions":
        found["guest_instructions"] = float(statistics.median(samples))
    else:
        kind = "emulated" if report.environment.emulated else "latency"
        p50, p90 = np.quantile(np.asarray(samples, np.float64) / 1e6, (0.5, 0.9))
        found |= {f"{kind}_p50_ms": float(p50), f"{kind}_p90_ms": float(p90)}
        if kind == "latency":
            found |= {"load_ms": report.load_ms, "first_ms": report.first_ms}
            if len(samples) >= P99_SAMPLES_MIN:
                found["latency_p99_ms"] = float(np.quantile(np.asarray(samples, np.float64) / 1e6, 0.99))
    found["peak_memory_bytes"] = float(report.memory.peak_bytes)
    found["model_memory_bytes"] = float(report.memory.peak_bytes - report.memory.before_load_bytes)
    if report.energy is not None and report.samples_ns:
        found["energy_mj"] = report.energy.joules * 1e3 / len(samples)
    if accuracy is not None:
        found["accuracy"] = accuracy.value
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A kept run without its raw samples: what tables, comparisons and reports read.

    `accuracy_samples` is over how many samples `metrics["accuracy"]` was taken, None where it was not.
    """

    key: str
    bench: str
    device: DeviceName
    subject: Subject
    conditions: Conditions
    environment: Environment | None
    round: int
    position: int
    attempt: int
    started_at: str
    status: Status
    reason: str | None
    metrics: Mapping[str, float]
    accuracy_samples: int | None = None

    @classmethod
    def of(cls, run: RunRecord) -> RunSummary:
        """The summary of a run."""
        return cls(
            key=run.key,
            bench=run.bench,
            device=run.device,
            subject=run.subject,
            conditions=run.conditions,
            environment=None if run.report is None else run.report.environment,
            round=run.round,
            position=run.position,
            attempt=run.attempt,
            started_at=run.started_at,
            status=run.status,
            reason=run.reason,
            metrics=run.metrics,
            accuracy_samples=None if run.accuracy is None else len(run.accuracy.correct),
        )
