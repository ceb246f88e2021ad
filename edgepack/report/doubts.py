"""What makes a row doubtful, by rules on what was recorded; the same bounds as the warnings of `edgepack bench`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgepack.report.details import Detail
from edgepack.report.rows import Row, Rows, title_of
from edgepack.stats import P90_SAMPLES_MIN

# MLPerf Mobile: repeated results within 5 %.
SPREAD_MAX = 0.05
SLOW_FIRST_RUN = 1.1
TOO_SHORT_MS = 0.02  # the call from Python costs about a microsecond: 5 % of this
_SHOWN_MAX = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """One warning: what it is about, what is wrong and what to try. `rows` are the rows that it is about."""

    kind: str
    text: str
    rows: tuple[str, ...]


def doubts_of(rows: Rows, details: Sequence[Detail]) -> tuple[Doubt, ...]:
    """All warnings; those that several rows share are one."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows.rows:
        for kind, text in _of_row(row):
            found.setdefault((kind, text), []).append(row.id)
    for detail in details:
        for kind, text in _of_run(detail):
            found.setdefault((kind, text), []).append(detail.row.id)
    every = [Doubt(kind=kind, text=text, rows=tuple(dict.fromkeys(ids))) for (kind, text), ids in found.items()]
    return tuple(_across(rows) + every[:_SHOWN_MAX])


def spread_of(row: Row) -> float:
    """(slowest − fastest) ÷ median of the run medians."""
    return (max(row.run_values) - min(row.run_values)) / row.speed if row.speed else 0.0


def _across(rows: Rows) -> list[Doubt]:
    found = []
    if rows.excluded_total:
        text = f"{rows.excluded_total} runs are listed below and count in no number: partial, void or failed"
        found.append(Doubt(kind="not counted", text=text, rows=tuple(row.id for row in rows.rows if row.excluded)))
    versions: dict[tuple[str, str], list[Row]] = {}
    for row in rows.rows:
        versions.setdefault((title_of(row.subject), row.subject.model_sha256), []).append(row)
    for (title, _), group in versions.items():
        names = sorted({f"{row.environment.runtime} {row.environment.runtime_version}" for row in group})
        if len(names) > 1:
            text = f"{title} ran in {', '.join(names)}: rows with different runtimes are no comparison of models"
            found.append(Doubt(kind="runtimes", text=text, rows=tuple(row.id for row in group)))
    return found


def _of_row(row: Row) -> Iterable[tuple[str, str]]:
    if row.runs < 2:
        yield "one run", "one run can't tell how much runs differ; use more repetitions"
    elif spread_of(row) > SPREAD_MAX:
        yield "spread", f"the runs differ by more than {100 * SPREAD_MAX:.0f} %; repeat on a quiet machine"
    if row.runs > 1 and row.run_values[0] > SLOW_FIRST_RUN * statistics.median(row.run_values[1:]):
        yield "first run", "the first run was more than 10 % slower than the others; warm up longer and repeat"
    if row.kind == "device" and row.speed < TOO_SHORT_MS:
        yield (
            "too short",
            f"an inference takes less than {1e3 * TOO_SHORT_MS:.0f} µs; the call itself is a part of that",
        )
    if row.kind == "emulated":
        yield "emulated", f"{row.environment.emulated}: emulated time says nothing about a real device's"
    environment = row.environment
    if row.conditions.threads > environment.usable_cores:
        yield "threads", f"{row.conditions.threads} threads shared {environment.usable_cores} cores; use fewer"


def _of_run(detail: Detail) -> Iterable[tuple[str, str]]:
    report = detail.report
    before, environment = report.before, report.environment
    if before.load_average > environment.cores:
        yield "busy", f"the machine was busy: load average above its {environment.cores} cores; stop other work"
    if before.governor not in (None, "performance"):
        yield "governor", f"the governor was '{before.governor}', so the frequency may vary; set it to 'performance'"
    states = (before, *report.during, report.after)
    if any(state.throttled for state in states):
        yield "throttled", "the system held the CPU back during a run; cool the device, or wait between runs"
    if detail.samples < P90_SAMPLES_MIN and environment.clock == "ns":
        yield "few samples", f"a run has fewer than the {P90_SAMPLES_MIN} samples that a p90 needs; measure longer"
    if report.stopped_early:
        yield "cut short", "a run reached the time limit before it had enough iterations; raise the limit"
    if report.warmup_stable is False:
        yield "warm-up", "a warm-up ended by its bound before the samples were stable; warm up longer"
    if report.memory.peak_not_reset:
        yield "memory", f"peak memory could not be counted from the load on: {report.memory.peak_not_reset}"
    for note in report.execution.notes:
        yield "execution", note
