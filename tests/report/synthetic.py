"""Runs as `edgepack bench` records them, without a device: values like those of the digits model on three boards and two emulated machines."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from edgepack.records import (
    Accuracy,
    AgentReport,
    Clock,
    Conditions,
    DeviceName,
    DeviceState,
    Environment,
    Execution,
    LayerTime,
    MemoryUse,
    RunRecord,
    RunSummary,
    Subject,
)

BEGIN = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
PROTOCOL = {
    "repetitions": 5,
    "warmup_min_iterations": 10,
    "warmup_min_s": 1.0,
    "iterations_min": 50,
    "duration_min_s": 2.0,
    "max_s": 60.0,
    "timeout_s": 300.0,
    "seed": 0,
}
CONDITIONS = Conditions(suite="standard", protocol=PROTOCOL, threads=1, inputs_sha256="3f" * 32)
LAYERS = ("conv1", "block1.conv", "block1.depthwise", "block2.conv", "block2.depthwise", "pool", "classifier")
# Milliseconds, bytes, share of right answers.
MODELS = {
    "float": (4.1, 534_000, 0.9917),
    "bundle": (1.9, 202_000, 0.9900),
    "pruned": (1.95, 96_000, 0.9861),
    "wide": (4.4, 720_000, 0.9897),
}
# How many times as long as on the first, and what is told of each.
BOARDS = {"kitchen-pi5": 1.0, "shelf-pi4": 2.6, "pixel-7": 0.7}


def subject(label: str, *, version: str = "1.0.0") -> Subject:
    _, size_bytes, _ = MODELS[label]
    return Subject(
        label=label,
        model_sha256=hashlib.sha256(f"{label} {version}".encode()).hexdigest(),
        size_bytes=size_bytes,
        runtime="litert",
        bundle="digits",
        version=version,
        target="arm64",
        bundle_sha256=hashlib.sha256(version.encode()).hexdigest(),
    )


def environment(name: str, *, emulated: str | None = None, clock: Clock = "ns") -> Environment:
    return Environment(
        system="Linux",
        kernel="6.12.34+rpt-rpi-2712",
        machine="aarch64",
        cpu_model=None if emulated else "Cortex-A76",
        cores=4,
        usable_cores=4,
        python="3.11.2",
        numpy="2.3.1",
        timer_resolution_ns=18.5,
        runtime="ai_edge_litert",
        runtime_version="2.3.0",
        os_name="Debian GNU/Linux 12 (bookworm)",
        libc="glibc 2.36",
        soc=None if emulated else "BCM2712",
        memory_bytes=8_253_964_288,
        boot_id=hashlib.sha256(name.encode()).hexdigest()[:32],
        emulated=emulated,
        clock=clock,
        missing={"cpu_model": "not in /proc/cpuinfo"} if emulated else {},
    )


def state(at_s: float, *, heat: float = 0.0, told: bool = True) -> DeviceState:
    if not told:
        reason = "no cpufreq in /sys (a virtual machine?)"
        missing = {
            "frequencies_mhz": reason,
            "governor": reason,
            "temperature_c": "no thermal zone in /sys (a virtual machine?)",
        }
        return DeviceState(
            load_average=1.2, governor=None, frequencies_mhz=None, temperature_c=None, at_s=at_s, missing=missing
        )
    return DeviceState(
        load_average=0.3 + heat / 20,
        governor="ondemand",
        frequencies_mhz=(2400.0, 2400.0, 2400.0 - 30 * heat, 1500.0),
        temperature_c=47.0 + heat,
        at_s=at_s,
        throttled=False,
        throttle_count=0,
        free_memory_bytes=5_100_000_000,
        missing={"battery_percent": "no battery in /sys/class/power_supply"},
    )


def record(
    label: str,
    device: str,
    *,
    round_number: int = 0,
    bench: str = "b1f0c2d4-0000-4000-8000-000000000001",
    version: str = "1.0.0",
    scale: float = 1.0,
    samples: int = 1200,
    emulated: str | None = None,
    clock: Clock = "ns",
    profiled: bool = False,
    started: datetime = BEGIN,
) -> RunRecord:
    """One complete run; its numbers follow from the arguments alone."""
    seed = int.from_bytes(hashlib.sha256(f"{label}{device}{round_number}{bench}{version}".encode()).digest()[:8])
    random = np.random.default_rng(seed)
    base_ms, size_bytes, share = MODELS[label]
    model = subject(label, version=version)
    centre_ns = base_ms * scale * 1e6 * (1 + 0.01 * random.standard_normal())
    times = centre_ns * (1 + random.gamma(2.0, 0.008, samples))
    times[random.random(samples) < 0.004] *= 2.4
    if clock == "guest_instructions":
        times = np.full(samples, round(base_ms * 2.1e6)) + random.integers(-300, 300, samples)
    times = times.round()
    told = emulated is None
    heat = 1.5 * round_number
    report = AgentReport(
        agent=2,
        model_sha256=model.model_sha256,
        threads=1,
        load_ms=1.3 * scale * (1 + 0.1 * random.random()),
        first_ms=2.2 * base_ms * scale,
        warmup_ns=tuple(int(value) for value in times[:40] * 1.1),
        samples_ns=tuple(int(value) for value in times),
        stopped_early=False,
        memory=MemoryUse(
            before_load_bytes=45_506_560,
            after_load_bytes=45_506_560 + 3 * size_bytes,
            after_first_bytes=45_506_560 + 6 * size_bytes,
            after_run_bytes=45_506_560 + 6 * size_bytes + int(random.integers(0, 9)) * 4096,
            peak_bytes=45_506_560 + 7 * size_bytes + int(random.integers(0, 99)) * 4096,
            major_faults=0,
            peak_not_reset=None,
            pss_bytes=39_000_000,
        ),
        environment=environment(device, emulated=emulated, clock=clock),
        execution=Execution(
            device="CPU",
            types={"f32": 21} if label == "float" else {"i8": 19, "f32": 2},
            threads=1,
            delegate="XNNPACK",
            delegated_nodes=19,
            nodes=21,
        ),
        before=state(0.4, heat=heat, told=told),
        during=(state(1.5, heat=heat + 1, told=told), state(2.5, heat=heat + 2, told=told)),
        after=state(3.6, heat=heat + 2.2, told=told),
        import_ms=210.0,
        warmup_stable=True,
        profile=_profile(label, base_ms * scale) if profiled else (),
    )
    rights = tuple(bool(right) for right in np.arange(1797) < round(share * 1797))
    right = Accuracy(metric="top1", value=sum(rights) / 1797, correct=rights, inputs_sha256="9a" * 32, agreement=1.0)
    return RunRecord(
        bench=bench,
        device=DeviceName(transport="ssh", name=device),
        subject=model,
        conditions=replace(CONDITIONS, suite="profile") if profiled else CONDITIONS,
        round=round_number,
        position=list(MODELS).index(label),
        attempt=1,
        started_at=(started + timedelta(seconds=20 * round_number + 4 * list(MODELS).index(label))).isoformat(),
        status="complete",
        report=report,
        accuracy=right if round_number == 0 else None,
    )


def _profile(label: str, total_ms: float) -> tuple[LayerTime, ...]:
    shares = np.array([0.06, 0.31, 0.12, 0.28, 0.11, 0.02, 0.08])
    layers = [
        LayerTime(
            name=f"op_{number}",
            kind="CONV_2D" if "conv" in layer else "DEPTHWISE_CONV_2D",
            mean_ms=float(share * total_ms),
            calls=200,
            source_layer=layer,
        )
        for number, (layer, share) in enumerate(zip(LAYERS, shares, strict=True))
    ]
    quantize = LayerTime(name="tfl.quantize", kind="QUANTIZE", mean_ms=0.02 * total_ms, calls=200)
    return (quantize, *layers) if label != "float" else tuple(layers)


def bench_of_boards(*, rounds: int = 7) -> list[RunRecord]:
    """Four models on three boards and on two emulated machines, profiled runs, and one partial and one void run."""
    found = []
    for board, scale in BOARDS.items():
        for label in MODELS:
            found += [record(label, board, round_number=number, scale=scale) for number in range(rounds)]
    found += [record(label, "kitchen-pi5", profiled=True, round_number=9) for label in ("float", "bundle")]
    for label in ("float", "bundle"):
        for number in range(3):
            found.append(record(label, "arm64-vm", round_number=number, scale=14, samples=300, emulated="QEMU"))
            found.append(
                record(
                    label, "arm64-vm", round_number=50 + number, samples=60, emulated="QEMU", clock="guest_instructions"
                )
            )
    return [*found, *cut_off()]


def cut_off() -> list[RunRecord]:
    """A partial run and a void one."""
    one, other = record("bundle", "shelf-pi4", round_number=40), record("float", "shelf-pi4", round_number=41)
    lost = "the device went away after 412 inferences (ssh: connection reset); the run is repeated"
    partial = replace(one, status="partial", report=None, reason=lost, samples_ns=one.report.samples_ns[:412])  # type: ignore[union-attr]
    return [partial, replace(other, status="void", reason="throttled during the run (rule: no throttling)")]


def builds(device: str = "kitchen-pi5") -> list[RunRecord]:
    """Seven builds of the bundle, a week apart, each measured with its float model; 1.2.0 is slower."""
    found = []
    versions = ("0.7.0", "0.8.0", "0.9.0", "0.9.1", "1.1.0", "1.2.0", "1.2.1")
    for number, version in enumerate(versions):
        for label, factor in (("float", 1.0), ("bundle", 1.12 if version == "1.2.0" else 1.3 - 0.05 * min(number, 5))):
            found += [
                record(
                    label,
                    device,
                    round_number=turn,
                    bench=f"b1f0c2d4-0000-4000-8000-0000000001{number:02d}",
                    version=version,
                    scale=factor,
                    samples=700,
                    started=BEGIN - timedelta(days=7 * (len(versions) - number)),
                )
                for turn in range(5)
            ]
    return found


def fleet(*, devices: int, runs: int) -> list[RunSummary]:
    """Summaries of so many runs on each of so many devices, without making samples."""
    template = RunSummary.of(record("bundle", "any"))
    random = np.random.default_rng(7)
    found = []
    for number in range(devices):
        device = DeviceName(transport="ssh", name=f"board-{number:03d}")
        centre_ms = 1.9 * float(random.lognormal(0, 0.2))
        p50 = centre_ms * (1 + 0.01 * random.standard_normal(runs))
        memory = 46e6 + random.integers(0, 99, runs) * 4096.0
        for turn in range(runs):
            value = float(p50[turn])
            metrics = {
                **template.metrics,
                "latency_p50_ms": value,
                "latency_p90_ms": value * 1.03,
                "latency_p99_ms": value * 1.2,
                "load_ms": value * 0.7,
                "first_ms": value * 2.2,
                "peak_memory_bytes": float(memory[turn]),
                "model_memory_bytes": float(memory[turn]) - 45.5e6,
            }
            found.append(
                replace(
                    template,
                    key=f"{number:032x}{turn:032x}",
                    device=device,
                    round=turn,
                    started_at=(BEGIN + timedelta(seconds=5 * turn)).isoformat(),
                    metrics=metrics,
                )
            )
    return found
