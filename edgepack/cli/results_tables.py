"""What `edgepack results` draws and prints of benches and runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from edgepack.cli.tables import facts, plain_table
from edgepack.cli.words import digits, percent, quantity, shortened
from edgepack.records import METRICS, RunSummary
from edgepack.store.sql.codec import to_fields

if TYPE_CHECKING:
    from edgepack.records import Accuracy, AgentReport, DeviceName, DeviceState, Energy, RunRecord
    from edgepack.store.results import Attempt, BenchSummary

_COLORS = {"complete": "green", "partial": "yellow", "void": "yellow", "failed": "bold red"}
_BENCH_CHARACTERS, _KEY_CHARACTERS = 12, 10
_HEADLINE = ("latency_p50_ms", "emulated_p50_ms", "guest_instructions")  # the first that a run has stands for it


def benches_table(benches: Sequence[BenchSummary]) -> Table:
    """A line a bench."""
    rows = [
        (
            escape(bench.bench[:_BENCH_CHARACTERS]),
            _moment(bench.started_at),
            escape(shortened([_device(device) for device in bench.devices], at_most=3)),
            escape(shortened(_models(bench), at_most=4)),
            escape(", ".join(bench.suites)),
            _counts(bench.runs),
        )
        for bench in benches
    ]
    columns = ("bench", "began (UTC)", "devices", "models", "suite", "runs")
    return plain_table("", dict.fromkeys(columns, "left"), rows)


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """A line a run, with its latency or what stands in its place."""
    rows = [
        (
            run.key[:_KEY_CHARACTERS],
            escape(run.bench[:_BENCH_CHARACTERS]),
            _moment(run.started_at),
            escape(_device(run.device)),
            escape(_model(run.subject.bundle, run.subject.version, run.subject.label)),
            f"{run.round}.{run.position}",
            _headline(run.metrics),
            quantity("_bytes", run.metrics["peak_memory_bytes"]) if "peak_memory_bytes" in run.metrics else "",
            _status(run.status) + _because(run.reason),
        )
        for run in runs
    ]
    columns = dict.fromkeys(("run", "bench", "began (UTC)", "device", "model", "round"), "left")
    return plain_table("", {**columns, "median": "right", "peak memory": "right", "status": "left"}, rows)


def record_tables(record: RunRecord, attempts: Sequence[Attempt]) -> Iterator[Table]:
    """All of one run."""
    report, subject = record.report, record.subject
    yield facts(
        [
            ("run", record.key),
            ("bench", escape(f"{record.bench}, round {record.round}, position {record.position}")),
            ("status", _status(record.status) + _because(record.reason)),
            ("began", escape(f"{record.started_at}, attempt {record.attempt}")),
            *(("other attempt", _attempt(one)) for one in attempts),
            ("device", escape(_device(record.device))),
            ("model", escape(_model(subject.bundle, subject.version, subject.label))),
            ("sha256", subject.model_sha256),
            ("conditions", escape(f"suite {record.conditions.suite}, {_threads(record.conditions.threads)}")),
            *([] if report is None else _report_facts(record)),
            ("samples", _sample_counts(record)),
        ]
    )
    if record.metrics:
        rows = [(escape(name), quantity(name, value), *_unit(name)) for name, value in record.metrics.items()]
        yield plain_table("", {"metric": "left", "value": "right", "unit": "left", "better": "left"}, rows)
    if report is not None:
        yield _states({"before": (report.before,), "during": report.during, "after": (report.after,)})
        if report.profile:
            layers = sorted(report.profile, key=lambda layer: -layer.mean_ms)
            cells = [
                (escape(layer.name), layer.kind, digits(layer.mean_ms), escape(layer.source_layer or ""))
                for layer in layers
            ]
            sides = {"operator": "left", "kind": "left", "ms": "right", "source layer": "left"}
            yield plain_table("Profile, slowest first", sides, cells)


def sample_lines(record: RunRecord) -> Iterator[str]:
    """Kind and value, tab between: warm-up, measured, or what had come home of a run that was cut off."""
    if record.report is not None:
        yield from (f"warmup\t{value}" for value in record.report.warmup_ns)
        yield from (f"measured\t{value}" for value in record.report.samples_ns)
    yield from (f"partial\t{value}" for value in record.samples_ns)


def bench_fields(bench: BenchSummary) -> dict[str, Any]:
    """JSON-able."""
    fields = asdict(bench)
    return {**fields, "runs": dict(bench.runs)}


def summary_fields(run: RunSummary) -> dict[str, Any]:
    """JSON-able."""
    return to_fields(run)


def record_fields(record: RunRecord, attempts: Sequence[Attempt], *, with_samples: bool) -> dict[str, Any]:
    """JSON-able; without samples their lists are left out."""
    fields: dict[str, Any] = {"key": record.key, **to_fields(record), "metrics": dict(record.metrics)}
    fields["other_attempts"] = [asdict(attempt) for attempt in attempts]
    if not with_samples:
        del fields["samples_ns"]
        for name in ("warmup_ns", "samples_ns"):
            if fields["report"] is not None:
                del fields["report"][name]
    return fields


def bench_words(bench: BenchSummary) -> str:
    """A bench in a sentence."""
    total = sum(bench.runs.values())
    devices = shortened([_device(device) for device in bench.devices], at_most=3)
    return f"bench {bench.bench} of {bench.started_at}, {total} runs on {devices},"


def _report_facts(record: RunRecord) -> list[tuple[str, str]]:
    assert record.report is not None
    environment, execution = record.report.environment, record.report.execution
    emulated = f"emulated by {environment.emulated}: no times of a real device" if environment.emulated else ""
    types = ", ".join(f"{kind} × {count}" for kind, count in execution.types.items())
    return [
        ("", emulated and f"[yellow]{escape(emulated)}[/]"),
        (
            "machine",
            escape(f"{environment.cpu_model or environment.machine}, {environment.os_name or environment.system}"),
        ),
        ("runtime", escape(f"{environment.runtime} {environment.runtime_version}, {_threads(record.report.threads)}")),
        ("ran on", escape(" ".join(part for part in (execution.device, types) if part))),
        ("notes", escape("; ".join(execution.notes))),
        ("accuracy", "" if record.accuracy is None else _accuracy(record.accuracy)),
        ("energy", "" if record.report.energy is None else _energy(record.report.energy)),
        *(("not told", escape(f"{name}: {why}")) for name, why in _missing(record.report).items()),
    ]


def _accuracy(found: Accuracy) -> str:
    parts = [f"{found.metric} {percent(found.value)} of {len(found.correct):,} samples"]
    if found.agreement is not None:
        parts.append(f"{percent(found.agreement)} agree with the verified outputs")
    return escape(", ".join(parts))


def _energy(found: Energy) -> str:
    return escape(
        f"{digits(found.joules)} J of the whole device in {found.window_s:.1f} s ({found.sensor}, {found.rate_hz:g} Hz)"
    )


def _missing(report: AgentReport) -> dict[str, str]:
    """What the device didn't tell, and why."""
    return {**report.environment.missing, **report.memory.missing, **report.before.missing}


def _states(moments: Mapping[str, Sequence[DeviceState]]) -> Table:
    rows = [
        (
            f"{moment} ({state.at_s:.1f} s)",
            f"{state.load_average:.2f}",
            state.governor or "",
            "" if state.frequencies_mhz is None else f"{max(state.frequencies_mhz, default=0):.0f}",
            "" if state.temperature_c is None else f"{state.temperature_c:.1f}",
            "" if state.throttled is None else ("[yellow]yes[/]" if state.throttled else "no"),
        )
        for moment, states in moments.items()
        for state in states
    ]
    columns = {
        "device": "left",
        "load": "right",
        "governor": "left",
        "MHz": "right",
        "°C": "right",
        "throttled": "left",
    }
    return plain_table("", columns, rows)


def _sample_counts(record: RunRecord) -> str:
    if record.report is None:
        return f"{len(record.samples_ns)} came home"
    kept = f"{len(record.report.samples_ns)} measured, {len(record.report.warmup_ns)} of warm-up"
    return kept + (f", {len(record.samples_ns)} of a part" if record.samples_ns else "")


def _headline(metrics: Mapping[str, float]) -> str:
    for name in _HEADLINE:
        if name in metrics:
            return _with_unit(name, metrics[name])
    return ""


def _with_unit(name: str, value: float) -> str:
    if name == "guest_instructions":
        return f"{value:,.0f} instructions"
    return quantity(name, value) + (" emulated" if name.startswith("emulated") else "")


def _unit(name: str) -> tuple[str, str]:
    better, unit = METRICS.get(name, ("", ""))
    return escape(unit), better


def _because(reason: str | None) -> str:
    """On one line and without control characters: a device's last words are no commands to this terminal."""
    if reason is None:
        return ""
    line = "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(reason.split()))
    return f" [dim]{escape(line)}[/]"


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _attempt(one: Attempt) -> str:
    return escape(f"{one.attempt}: {one.status}, {one.started_at}") + _because(one.reason)


def _models(bench: BenchSummary) -> list[str]:
    return list(dict.fromkeys(_model(one.bundle, one.version, one.label) for one in bench.subjects))


def _model(bundle: str | None, version: str | None, label: str) -> str:
    return " ".join(part for part in (bundle, version, label) if part)


def _device(device: DeviceName) -> str:
    return f"{device.transport}:{device.name}"


def _moment(started_at: str) -> str:
    """Without fractions of a second and the zone, which the header names."""
    return escape(started_at[:19].replace("T", " "))


def _counts(runs: Mapping[Any, int]) -> str:
    return ", ".join(f"[{_COLORS.get(status, 'default')}]{count} {status}[/]" for status, count in runs.items())


def _status(status: str) -> str:
    return f"[{_COLORS.get(status, 'default')}]{status}[/]"
