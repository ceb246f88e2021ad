"""Measures models on a device: fresh processes, interleaved, every raw sample kept. docs/benchmarking.md says why so."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgepack.core.digest import canonical_json
from edgepack.core.errors import StageError, UsageError
from edgepack.core.files import write_atomic
from edgepack.core.types import Progress
from edgepack.devices.agent import AgentSpec, agent_file, ask, put_spec
from edgepack.devices.protocol import Transport
from edgepack.records import AgentReport, DeviceName
from edgepack.stats import (
    P90_SAMPLES_MIN,
    Interval,
    LatencySummary,
    Ratio,
    mean_ci,
    ratio_of_paired_medians,
    summary_ms,
)

SCHEMA = "edgepack.bench/1"
FILE_NAME = "bench.json"
SPREAD_MAX = 0.05  # MLPerf Mobile: repeated results within 5 %
_SLOW_FIRST_RUN = 1.1
_TOO_SHORT_MS = 0.02  # the call from Python costs about a microsecond: 5 % of this


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchModel:
    """A model file to measure, the files that lie beside it, and the runtime that the agent opens it in, with that runtime's options."""

    label: str
    path: Path
    sha256: str
    size_bytes: int
    companions: tuple[Path, ...] = ()
    runtime: str = "litert"
    runtime_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchProtocol:
    """How to measure: `repetitions` fresh processes per model, and the bounds of each.

    A loop ends when both its minima are reached, or after `max_s` seconds of warm-up and measurement together.
    `timeout_s` kills a process that hangs.
    """

    repetitions: int = 5
    threads: int = 1
    warmup_min_iterations: int = 10
    warmup_min_s: float = 0.1
    iterations_min: int = 50
    duration_min_s: float = 0.5
    max_s: float = 60.0
    timeout_s: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("repetitions", "threads", "iterations_min"):
            if getattr(self, name) < 1:
                raise UsageError(f"bench: {name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.max_s < self.timeout_s:
            raise UsageError(f"bench: need 0 < max_s < timeout_s, got {self.max_s} and {self.timeout_s}")


QUICK = BenchProtocol()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One process on one device: its place in the order, the model and all that the agent reported."""

    label: str
    round: int
    report: AgentReport

    @property
    def median_ms(self) -> float:
        return statistics.median(self.report.samples_ns) / 1e6

    @property
    def peak_memory_bytes(self) -> int:
        return self.report.memory.peak_bytes

    @property
    def model_memory_bytes(self) -> int:
        return self.report.memory.peak_bytes - self.report.memory.before_load_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One model over all its runs.

    `p50_ms` is the median of the run medians; `p50_ci95_ms` is Student's interval over them (None for one run).
    `spread` is (slowest − fastest) ÷ median of the run medians. `pooled` summarises all samples together.
    Peak memory is of the whole process, Python and runtime included; `model_memory_bytes` is what loading and running
    added (median over runs).
    """

    label: str
    sha256: str
    size_bytes: int
    p50_ms: float
    p50_ci95_ms: Interval | None
    run_medians_ms: tuple[float, ...]
    spread: float
    pooled: LatencySummary
    load_ms: float
    first_ms: float
    peak_memory_bytes: int
    peak_memory_median_bytes: int
    model_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How many times as long `label` takes as `baseline`."""

    label: str
    baseline: str
    ratio: Ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """Everything that one benchmark found; `warnings` says what makes it doubtful and what to try."""

    device: DeviceName
    protocol: BenchProtocol
    runs: tuple[Run, ...]
    measurements: tuple[Measurement, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]

    def measurement(self, label: str) -> Measurement:
        """The measurement of one model. Raises KeyError for an unknown label."""
        return {one.label: one for one in self.measurements}[label]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, with every raw sample."""
        return {"schema": SCHEMA, **_plain(asdict(self))}

    def save(self, folder: Path) -> Path:
        """Write bench.json into a folder, atomically; the file's path."""
        path = folder / FILE_NAME
        write_atomic(path, f"{canonical_json(self.as_dict())}\n".encode())
        return path


def bench(
    models: Sequence[BenchModel], *, device: Transport, protocol: BenchProtocol = QUICK, progress: Progress
) -> BenchResult:
    """Measure models side by side; the first is the baseline of all ratios.

    Raises UsageError for no models or equal labels, StageError when a process fails, hangs or measured another file,
    EnvironmentProblem when the device lacks the runtime.
    """
    if not models or len({model.label for model in models}) != len(models):
        raise UsageError(f"bench: need models with different labels, got {[model.label for model in models]}")
    agent = device.put(agent_file())
    remotes = [device.put(model.path, companions=model.companions) for model in models]
    specs = [put_spec(device, _spec(model, remote, protocol)) for model, remote in zip(models, remotes, strict=True)]
    progress.start(
        f"Measuring {' and '.join(model.label for model in models)}", total=len(models) * protocol.repetitions
    )
    runs = []
    for round_number, index in run_order(len(models), protocol.repetitions):
        model = models[index]
        report = ask(device, agent=agent, spec=specs[index], label=model.label, timeout_s=protocol.timeout_s)
        if report.model_sha256 != model.sha256:
            raise StageError(f"bench {model.label}: {model.path} is not the file that was asked for; build it again")
        runs.append(Run(label=model.label, round=round_number, report=report))
        progress.advance(note=f"{model.label} {runs[-1].median_ms:.3g} ms")
    progress.done()
    return summarise(models, tuple(runs), device=device.describe(), protocol=protocol)


def run_order(models: int, repetitions: int) -> tuple[tuple[int, int], ...]:
    """(round, model) of every process: A B, B A, A B, …, so that a slow drift of the machine hits all models alike.

    >>> [model for _, model in run_order(2, 3)]
    [0, 1, 1, 0, 0, 1]
    """
    forward = range(models)
    rounds = (forward if number % 2 == 0 else reversed(forward) for number in range(repetitions))
    return tuple((number, index) for number, indices in enumerate(rounds) for index in indices)


def summarise(
    models: Sequence[BenchModel], runs: tuple[Run, ...], *, device: DeviceName, protocol: BenchProtocol
) -> BenchResult:
    """The result of runs that were measured; the first model is the baseline."""
    grouped = {model.label: [run for run in runs if run.label == model.label] for model in models}
    measurements = tuple(_measurement(model, grouped[model.label]) for model in models)
    base, *others = measurements
    comparisons = tuple(
        Comparison(
            label=one.label,
            baseline=base.label,
            ratio=ratio_of_paired_medians(one.run_medians_ms, base.run_medians_ms, seed=protocol.seed),
        )
        for one in others
    )
    return BenchResult(
        device=device,
        protocol=protocol,
        runs=runs,
        measurements=measurements,
        comparisons=comparisons,
        warnings=tuple(doubts(measurements, grouped)),
    )


def doubts(measurements: Sequence[Measurement], runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """What makes a result doubtful, and what to try; empty for a good one."""
    found = [line for one in measurements for line in _doubts_of_one(one, runs[one.label])]
    every = [run.report for group in runs.values() for run in group]
    load, cores = max(report.before.load_average for report in every), every[0].environment.cores
    if load > cores:
        found.append(f"the machine was busy: load average {load:.1f} on {cores} cores; stop other work and repeat")
    if (threads := every[0].threads) > (usable := every[0].environment.usable_cores):
        found.append(f"{threads} threads shared {usable} cores; use at most {usable}")
    if governors := sorted({report.before.governor for report in every} - {None, "performance"}, key=str):
        found.append(f"the CPU governor was '{governors[0]}', so its frequency may vary; set it to 'performance'")
    for label, group in runs.items():
        found += [f"{label}: {note}" for note in dict.fromkeys(n for run in group for n in run.report.execution.notes)]
    if reasons := sorted({str(report.memory.peak_not_reset) for report in every if report.memory.peak_not_reset}):
        found.append(f"peak memory could not be counted from the load on: {reasons[0]}")
    return found


def _doubts_of_one(one: Measurement, runs: Sequence[Run]) -> list[str]:
    found = []
    first, *rest = one.run_medians_ms
    if one.spread > SPREAD_MAX:
        found.append(f"the runs differ by {one.spread:.0%} (more than {SPREAD_MAX:.0%}); repeat on a quiet machine")
    if rest and first > _SLOW_FIRST_RUN * statistics.median(rest):
        found.append(f"the first run was {first / statistics.median(rest) - 1:.0%} slower; warm up longer and repeat")
    if len(runs) < 2:
        found.append("one run can't tell how much runs differ; use more repetitions")
    if one.pooled.n < P90_SAMPLES_MIN:
        found.append(f"{one.pooled.n} samples are too few for a p90 ({P90_SAMPLES_MIN} needed); measure longer")
    if cut := sum(run.report.stopped_early for run in runs):
        found.append(f"{cut} of {len(runs)} runs reached the time limit before enough iterations; raise the limit")
    if one.p50_ms < _TOO_SHORT_MS:
        found.append(f"an inference takes {one.p50_ms * 1e3:.0f} µs; the call itself (about 1 µs) is a part of that")
    return [f"{one.label}: {line}" for line in found]


def _measurement(model: BenchModel, runs: Sequence[Run]) -> Measurement:
    medians = tuple(run.median_ms for run in runs)
    p50_ms = statistics.median(medians)
    return Measurement(
        label=model.label,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        p50_ms=p50_ms,
        p50_ci95_ms=mean_ci(medians),
        run_medians_ms=medians,
        spread=(max(medians) - min(medians)) / p50_ms,
        pooled=summary_ms([sample for run in runs for sample in run.report.samples_ns]),
        load_ms=statistics.median(run.report.load_ms for run in runs),
        first_ms=statistics.median(run.report.first_ms for run in runs),
        peak_memory_bytes=max(run.peak_memory_bytes for run in runs),
        peak_memory_median_bytes=_middle(runs, lambda run: run.peak_memory_bytes),
        model_memory_bytes=_middle(runs, lambda run: run.model_memory_bytes),
    )


def _middle(runs: Sequence[Run], value: Callable[[Run], int]) -> int:
    return int(statistics.median(value(run) for run in runs))


def _spec(model: BenchModel, remote: str, protocol: BenchProtocol) -> AgentSpec:
    return AgentSpec(
        model=remote,
        runtime=model.runtime,
        options=dict(model.runtime_options),
        threads=protocol.threads,
        warmup_min_iterations=protocol.warmup_min_iterations,
        warmup_min_s=protocol.warmup_min_s,
        iterations_min=protocol.iterations_min,
        duration_min_s=protocol.duration_min_s,
        max_s=protocol.max_s,
        seed=protocol.seed,
    )


def _plain(value: Any) -> Any:
    """Tuples as lists, so that as_dict equals what JSON gives back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
