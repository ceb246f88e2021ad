"""Records of runs with every field set, for the tests of what reads and keeps them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgepack.records import (
    Accuracy,
    AgentReport,
    Conditions,
    DeviceName,
    DeviceState,
    Energy,
    Environment,
    Execution,
    LayerTime,
    MemoryUse,
    RunRecord,
    Status,
    Subject,
)

ENVIRONMENT = Environment(
    system="Linux",
    kernel="6.1.0",
    machine="aarch64",
    cpu_model="Cortex-A76",
    cores=4,
    usable_cores=4,
    python="3.11.2",
    numpy="2.2.0",
    timer_resolution_ns=1.0,
    runtime="litert",
    runtime_version="2.3.1",
    os_name="Debian 12",
    libc="glibc 2.36",
    soc="BCM2712",
    memory_bytes=8_000_000_000,
    boot_id="5f0c",
    missing={"accelerator": "none"},
)
SUBJECT = Subject(
    label="bundle",
    model_sha256="ab" * 32,
    size_bytes=5_000_000,
    runtime="litert",
    runtime_options={"xnnpack": True},
    bundle="digits",
    version="1.0.0",
    target="arm64",
    bundle_sha256="cd" * 32,
)
DEVICE = DeviceName(transport="ssh", name="pi5")
CONDITIONS = Conditions(suite="quick", protocol={"seed": 0, "max_s": 60.0}, threads=1, affinity=(2, 3))


def state(at_s: float = 0.0) -> DeviceState:
    """A state with some fields that the device couldn't give."""
    return DeviceState(
        load_average=0.25,
        governor="performance",
        frequencies_mhz=(2400.0, 2400.0),
        temperature_c=51.5,
        at_s=at_s,
        wall_s=1_795_000_000.5 + at_s,
        throttled=False,
        throttle_count=2,
        free_memory_bytes=3_000_000_000,
        battery_percent=81.0,
        charging=False,
        thermal_status=1,
        missing={"energy": "no sensor"},
    )


def report(samples_ns: tuple[int, ...] = (1_000_000, 1_200_000, 1_100_000), **other: Any) -> AgentReport:
    """A report of one process."""
    memory = MemoryUse(
        before_load_bytes=40_000_000,
        after_load_bytes=50_000_000,
        after_first_bytes=55_000_000,
        after_run_bytes=55_000_000,
        peak_bytes=56_000_000,
        major_faults=3,
        peak_not_reset=None,
        pss_bytes=41_000_000,
        missing={"swap": "no swap"},
    )
    fields: dict[str, Any] = {
        "agent": 2,
        "model_sha256": SUBJECT.model_sha256,
        "threads": 1,
        "load_ms": 4.5,
        "first_ms": 2.25,
        "warmup_ns": (1_500_000, 1_400_000),
        "samples_ns": samples_ns,
        "stopped_early": False,
        "memory": memory,
        "environment": ENVIRONMENT,
        "execution": Execution(
            device="CPU",
            types={"INT8": 30},
            notes=("asked for GPU",),
            threads=1,
            affinity=(2, 3),
            delegate="XNNPACK",
            delegated_nodes=28,
            nodes=30,
        ),
        "before": state(0.1),
        "during": (state(1.0), state(2.0)),
        "after": state(3.0),
        "import_ms": 80.0,
        "warmup_stable": True,
        "energy": Energy(joules=0.5, window_s=2.0, sensor="hwmon0", rate_hz=10.0),
        "profile": (LayerTime(name="conv", kind="CONV_2D", mean_ms=0.5, calls=10, source_layer="features.0"),),
    }
    return AgentReport(**{**fields, **other})


def run(round_: int = 0, *, status: Status = "complete", bench: str = "b1", **other: Any) -> RunRecord:
    """A run; a partial or failed one has no report."""
    whole = status in ("complete", "void")
    fields: dict[str, Any] = {
        "bench": bench,
        "device": DEVICE,
        "subject": SUBJECT,
        "conditions": CONDITIONS,
        "round": round_,
        "position": 0,
        "attempt": 1,
        "started_at": f"2026-11-22T09:{round_ // 60 % 60:02}:{round_ % 60:02}+00:00",
        "status": status,
        "report": report() if whole else None,
        "reason": None if status == "complete" else "the connection was lost",
        "samples_ns": () if whole or status == "failed" else (1_000_000, 1_010_000),
        "accuracy": Accuracy(
            metric="top1",
            value=0.75,
            correct=(True, False, True, True),
            inputs_sha256="ef" * 32,
            agreement=0.5,
            max_steps=1.5,
        )
        if status == "complete"
        else None,
    }
    return RunRecord(**{**fields, **other})


def subject(label: str = "float", **other: Any) -> Subject:
    """Another subject."""
    return replace(SUBJECT, label=label, **other)
