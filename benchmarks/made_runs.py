"""A made-up run with everything that a real one has, for the pages that measure stores and reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from edgepack.records import (
    AgentReport,
    Conditions,
    DeviceName,
    DeviceState,
    Environment,
    Execution,
    MemoryUse,
    RunRecord,
    Subject,
)

_ENVIRONMENT = Environment(
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
)
_SUBJECTS = tuple(
    Subject(
        label=label,
        model_sha256=digit * 64,
        size_bytes=size_bytes,
        runtime="litert",
        bundle="digits",
        version="1.0.0",
        target="arm64",
    )
    for label, digit, size_bytes in (("bundle", "a", 5_000_000), ("float", "b", 18_000_000))
)
_CONDITIONS = Conditions(suite="quick", protocol={"seed": 0, "max_s": 60.0, "iterations_min": 50}, threads=1)
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def made_run(*, bench: str, device: DeviceName, samples_ns: tuple[int, ...], number: int) -> RunRecord:
    """A complete run; `number` tells runs of one device apart: two subjects in turns."""
    subject = _SUBJECTS[number % 2]
    return RunRecord(
        bench=bench,
        device=device,
        subject=subject,
        conditions=_CONDITIONS,
        round=number // 2,
        position=number % 2,
        attempt=1,
        started_at=(_BEGAN + timedelta(minutes=number)).isoformat(),
        status="complete",
        report=_report(subject, samples_ns),
    )


def _report(subject: Subject, samples_ns: tuple[int, ...]) -> AgentReport:
    memory = MemoryUse(
        before_load_bytes=40_000_000,
        after_load_bytes=50_000_000,
        after_first_bytes=55_000_000,
        after_run_bytes=55_000_000,
        peak_bytes=56_000_000 + samples_ns[0] % 4096,
        major_faults=3,
        peak_not_reset=None,
        pss_bytes=41_000_000,
    )
    return AgentReport(
        agent=2,
        model_sha256=subject.model_sha256,
        threads=1,
        load_ms=samples_ns[1] / 1e6,
        first_ms=samples_ns[2] / 1e6,
        warmup_ns=samples_ns[:20],
        samples_ns=samples_ns,
        stopped_early=False,
        memory=memory,
        environment=_ENVIRONMENT,
        execution=Execution(device="CPU", types={"INT8": 30}, threads=1),
        before=_state(0.0),
        during=(_state(1.0), _state(2.0)),
        after=_state(3.0),
    )


def _state(at_s: float) -> DeviceState:
    return DeviceState(
        load_average=0.25, governor="performance", frequencies_mhz=(2400.0,) * 4, temperature_c=51.5, at_s=at_s
    )
