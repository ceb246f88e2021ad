"""What a device reports of one process. docs/benchmarking.md says what each number means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

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
