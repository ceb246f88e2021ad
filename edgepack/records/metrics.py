"""The numbers of a process by name: unit, direction, and how each follows from what the device reports."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgepack.records.process import AgentReport


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
