"""What a benchmark found: every run, and what follows from the complete ones."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepack.bench.doubts import doubts
from edgepack.bench.models import BenchModel
from edgepack.core.digest import canonical_json
from edgepack.core.files import write_atomic
from edgepack.records import Accuracy, AgentReport, Clock, DeviceName, LayerTime, RunRecord
from edgepack.stats import Interval, LatencySummary, Ratio, mean_ci, ratio_of_paired_medians, summary_ms
from edgepack.suites import BenchProtocol

SCHEMA = "edgepack.bench/2"
FILE_NAME = "bench.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One model over all its complete runs.

    `p50_ms` is the median of the run medians; `p50_ci95_ms` is Student's interval over them (None for one run); `pooled` summarises all samples together.
    These, `load_ms` and `first_ms` are None where the clock counts instructions: then `guest_instructions` is the median of the run medians, a proxy and no
    latency. `emulated` names the emulator whose time this is. `spread` is (largest − smallest) ÷ median of the run medians.
    Peak memory is of the whole process, Python and runtime included; `model_memory_bytes` is what loading and running added (median over runs).
    """

    label: str
    sha256: str
    size_bytes: int
    clock: Clock
    emulated: str | None
    p50_ms: float | None
    p50_ci95_ms: Interval | None
    guest_instructions: float | None
    run_medians_ns: tuple[float, ...]
    spread: float
    pooled: LatencySummary | None
    load_ms: float | None
    first_ms: float | None
    peak_memory_bytes: int
    peak_memory_median_bytes: int
    model_memory_bytes: int
    accuracy: Accuracy | None = None

    @property
    def run_medians_ms(self) -> tuple[float, ...]:
        """The run medians as times; empty where the clock counts instructions."""
        return tuple(value / 1e6 for value in self.run_medians_ns) if self.clock == "ns" else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How many times as long `label` takes as `baseline`, over the rounds that both have."""

    label: str
    baseline: str
    ratio: Ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """Everything that one benchmark found; `warnings` says what makes it doubtful and what to try. `records` has partial and void runs, too."""

    bench: str
    device: DeviceName
    protocol: BenchProtocol
    records: tuple[RunRecord, ...]
    measurements: tuple[Measurement, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]

    def measurement(self, label: str) -> Measurement:
        """The measurement of one model. Raises KeyError for an unknown label."""
        return {one.label: one for one in self.measurements}[label]

    def reports(self, label: str) -> tuple[AgentReport, ...]:
        """What the complete runs of one model reported, in their order."""
        return tuple(run.report for run in complete(self.records, label) if run.report is not None)

    def profile(self, label: str) -> tuple[LayerTime, ...]:
        """The operators of one model with their times; empty where none were taken."""
        found = [run.report for run in self.records if run.subject.label == label and run.report is not None]
        return next((report.profile for report in found if report.profile), ())

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, with every raw sample."""
        return {"schema": SCHEMA, **_plain(asdict(self))}

    def save(self, folder: Path) -> Path:
        """Write bench.json into a folder, atomically; the file's path."""
        path = folder / FILE_NAME
        write_atomic(path, f"{canonical_json(self.as_dict())}\n".encode())
        return path


def complete(records: Sequence[RunRecord], label: str) -> list[RunRecord]:
    """The runs of one model that count, by round: no profile, in which an inference takes longer."""
    found = [
        run
        for run in records
        if run.subject.label == label and run.status == "complete" and run.conditions.suite != "profile"
    ]
    return sorted(found, key=lambda run: (run.round, run.position))


def summarise(
    bench: str,
    models: Sequence[BenchModel],
    records: Sequence[RunRecord],
    *,
    device: DeviceName,
    protocol: BenchProtocol,
) -> BenchResult:
    """The result of runs that were measured; the first model is the baseline. Every model needs a complete run."""
    grouped = {model.label: complete(records, model.label) for model in models}
    measurements = tuple(_measurement(model, grouped[model.label]) for model in models)
    base, *others = models
    comparisons = []
    for other in others:
        medians = [_medians(grouped[model.label]) for model in (other, base)]
        rounds = sorted(medians[0].keys() & medians[1].keys())
        if rounds:
            pairs = [[one[number] for number in rounds] for one in medians]
            ratio = ratio_of_paired_medians(*pairs, seed=protocol.seed)
            comparisons.append(Comparison(label=other.label, baseline=base.label, ratio=ratio))
    reports = {label: [run.report for run in runs if run.report is not None] for label, runs in grouped.items()}
    return BenchResult(
        bench=bench,
        device=device,
        protocol=protocol,
        records=tuple(records),
        measurements=measurements,
        comparisons=tuple(comparisons),
        warnings=(*_lost(records), *doubts(measurements, reports)),
    )


def _medians(runs: Sequence[RunRecord]) -> dict[int, float]:
    return {run.round: _median_ns(run) for run in runs}


def _median_ns(run: RunRecord) -> float:
    assert run.report is not None
    return float(statistics.median(run.report.samples_ns))


def _measurement(model: BenchModel, runs: Sequence[RunRecord]) -> Measurement:
    reports = [run.report for run in runs if run.report is not None]
    medians = tuple(_median_ns(run) for run in runs)
    middle, counts_time = statistics.median(medians), reports[0].environment.clock == "ns"
    peaks = [report.memory.peak_bytes for report in reports]
    added = [report.memory.peak_bytes - report.memory.before_load_bytes for report in reports]
    accuracies = [run.accuracy for run in runs if run.accuracy is not None]
    return Measurement(
        label=model.label,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        clock=reports[0].environment.clock,
        emulated=reports[0].environment.emulated,
        p50_ms=middle / 1e6 if counts_time else None,
        p50_ci95_ms=mean_ci([value / 1e6 for value in medians]) if counts_time else None,
        guest_instructions=None if counts_time else middle,
        run_medians_ns=medians,
        spread=(max(medians) - min(medians)) / middle,
        pooled=summary_ms([sample for report in reports for sample in report.samples_ns]) if counts_time else None,
        load_ms=statistics.median(report.load_ms for report in reports) if counts_time else None,
        first_ms=statistics.median(report.first_ms for report in reports) if counts_time else None,
        peak_memory_bytes=max(peaks),
        peak_memory_median_bytes=int(statistics.median(peaks)),
        model_memory_bytes=int(statistics.median(added)),
        accuracy=accuracies[0] if accuracies else None,
    )


def _lost(records: Sequence[RunRecord]) -> list[str]:
    words = {"partial": "were cut off and tried again", "void": "were void and measured again"}
    found = []
    for status, what in words.items():
        reasons = [str(run.reason) for run in records if run.status == status]
        if reasons:
            found.append(f"{len(reasons)} runs {what}: {'; '.join(dict.fromkeys(reasons))}")
    return found


def _plain(value: Any) -> Any:
    """Tuples as lists, so that as_dict equals what JSON gives back."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
