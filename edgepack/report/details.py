"""What figures need of whole runs: each reduced as it is read, so that millions of samples don't stay in memory.

Of the samples of a run at most POINTS_MAX stay: those at evenly spaced ranks of the sorted samples, the smallest and the largest among them.
That is deterministic and keeps the distribution; percentiles on the page are never computed from them, but from all samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgepack.records import AgentReport, RunRecord, RunSummary
from edgepack.report.groups import RowKeys
from edgepack.report.rows import Row

POINTS_MAX = 400
RUNS_MAX = 20
RUNS_TOTAL_MAX = 240
ROWS_MAX = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """One complete run without its samples, but with `points` of them, in the samples' own unit (ns or instructions)."""

    row: Row
    run: RunRecord
    report: AgentReport
    points: tuple[float, ...]
    samples: int


def details_of(records: Iterable[RunRecord], rows: Sequence[Row], *, by_bench: bool, limit: int) -> tuple[Detail, ...]:
    """The first complete runs of each given row, at most `limit` of them; other records are passed over."""
    keys = RowKeys(by_bench=by_bench)
    row_by_key = {keys.of(_as_summary(row)): row for row in rows}
    found: list[Detail] = []
    counts: dict[str, int] = {}
    for record in records:
        if record.status != "complete" or record.report is None:
            continue
        row = row_by_key.get(keys.of(_summary(record)))
        if row is None or counts.get(row.id, 0) >= limit:
            continue
        counts[row.id] = counts.get(row.id, 0) + 1
        found.append(_reduced(record, record.report, row))
    return tuple(found)


def rows_to_draw(rows: Sequence[Row], *, limit: int = ROWS_MAX) -> tuple[Row, ...]:
    """All rows where they are few; else all rows of some devices, those at evenly spaced ranks of speed, so from the fastest to the slowest."""
    if len(rows) <= limit:
        return tuple(rows)
    by_device: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        by_device.setdefault((row.kind, row.device.transport, row.device.name), []).append(row)
    ranked = sorted(by_device.values(), key=lambda group: (group[0].kind, min(row.speed for row in group)))
    wanted = max(1, limit // max(len(group) for group in ranked))
    picks = sorted({round(place) for place in np.linspace(0, len(ranked) - 1, min(wanted, len(ranked)))})
    chosen = {row.id for pick in picks for row in ranked[pick][:limit]}
    return tuple(row for row in rows if row.id in chosen)[:limit]


def runs_to_draw(rows: int) -> int:
    """How many whole runs of each row are read where so many rows are drawn.

    >>> runs_to_draw(4), runs_to_draw(24)
    (20, 10)
    """
    return min(RUNS_MAX, RUNS_TOTAL_MAX // max(1, rows))


def spaced(values: Sequence[int], *, limit: int = POINTS_MAX) -> tuple[float, ...]:
    """The sorted values, or `limit` of them at evenly spaced ranks, the first and the last among them.

    >>> spaced([5, 1, 4, 2, 3], limit=3)
    (1.0, 3.0, 5.0)
    """
    ordered = np.sort(np.asarray(values, np.float64))
    if len(ordered) > limit:
        ordered = ordered[np.linspace(0, len(ordered) - 1, limit).round().astype(int)]
    return tuple(ordered.tolist())


def _reduced(record: RunRecord, report: AgentReport, row: Row) -> Detail:
    small = replace(report, samples_ns=(), warmup_ns=())
    return Detail(
        row=row,
        run=replace(record, report=None),
        report=small,
        points=spaced(report.samples_ns),
        samples=len(report.samples_ns),
    )


def _summary(record: RunRecord) -> RunSummary:
    """For its key alone: no metric is computed."""
    return RunSummary(
        key="",
        bench=record.bench,
        device=record.device,
        subject=record.subject,
        conditions=record.conditions,
        environment=None if record.report is None else record.report.environment,
        round=record.round,
        position=record.position,
        attempt=record.attempt,
        started_at=record.started_at,
        status=record.status,
        reason=record.reason,
        metrics={},
    )


def _as_summary(row: Row) -> RunSummary:
    return RunSummary(
        key="",
        bench=row.bench or "",
        device=row.device,
        subject=row.subject,
        conditions=row.conditions,
        environment=row.environment,
        round=0,
        position=0,
        attempt=1,
        started_at=row.first_at,
        status="complete",
        reason=None,
        metrics={},
    )
