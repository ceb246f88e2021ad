"""Reads runs: summaries without samples, columns of one metric, whole records. Called inside a reading transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, Table, select

from edgepack.records import (
    Accuracy,
    AgentReport,
    Conditions,
    DeviceName,
    DeviceState,
    Environment,
    LayerTime,
    RunRecord,
    RunSummary,
    Subject,
)
from edgepack.store.sql import schema
from edgepack.store.sql.codec import Fields, from_json, report_from_json, unpacked, unpacked_answers

T = TypeVar("T")

_RUN_FIELDS = ("round", "position", "attempt", "started_at", "status", "reason")
_SUMMARY_COLUMNS = ("key", "bench", "device", "subject", "conditions", "environment", *_RUN_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nouns:
    """What runs share, by its row's id: one object each, however many runs name it."""

    benches: Mapping[int, str]
    devices: Mapping[int, DeviceName]
    subjects: Mapping[int, Subject]
    conditions: Mapping[int, Conditions]
    environments: Mapping[int, Environment]


def nouns(connection: Connection) -> Nouns:
    """All nouns of a store: few, beside its runs."""
    benches = connection.execute(select(schema.benches.c.id, schema.benches.c.name))
    return Nouns(
        benches=dict(benches.all()),
        devices=_read(connection, schema.devices, DeviceName),
        subjects=_read(connection, schema.subjects, Subject),
        conditions=_read(connection, schema.conditions, Conditions),
        environments=_read(connection, schema.environments, Environment),
    )


def _read(connection: Connection, table: Table, kind: type[T]) -> dict[int, T]:
    rows = connection.execute(select(table.c.id, table.c.content))
    return {number: from_json(kind, content) for number, content in rows}


def run_summaries(
    connection: Connection, where: Sequence[ColumnElement[bool]], *, metrics: Table, limit: int | None
) -> dict[int, RunSummary]:
    """Summaries by the run's id, oldest first; with a limit the newest so many."""
    shared = nouns(connection)
    names = [column.name for column in metrics.columns if column.name != "run"]
    t, answers = schema.runs.c, schema.accuracies.c
    columns = (t.id, *(t[name] for name in _SUMMARY_COLUMNS), answers["count"], *(metrics.c[name] for name in names))
    query = select(*columns).outerjoin_from(schema.runs, metrics, metrics.c.run == t.id)
    query = query.outerjoin(schema.accuracies, answers.run == t.id)
    query = query.where(*where).order_by(t.started_at.desc(), t.id.desc()).limit(limit)
    found = {row[0]: _summary(row, shared, names) for row in _tuples(connection, query)}
    return dict(reversed(found.items()))


def _summary(row: tuple[Any, ...], shared: Nouns, names: Sequence[str]) -> RunSummary:
    """Of the columns id, _SUMMARY_COLUMNS, samples of the accuracy, metrics."""
    _, key, bench, device, subject, conditions, environment, place, position, attempt, started_at, status, reason = row[
        :13
    ]
    return RunSummary(
        key=key,
        bench=shared.benches[bench],
        device=shared.devices[device],
        subject=shared.subjects[subject],
        conditions=shared.conditions[conditions],
        environment=shared.environments.get(environment),
        round=place,
        position=position,
        attempt=attempt,
        started_at=started_at,
        status=status,
        reason=reason,
        accuracy_samples=row[13],
        metrics={name: value for name, value in zip(names, row[14:], strict=True) if value is not None},
    )


def _tuples(connection: Connection, query: Select[Any]) -> Any:
    """Rows as plain tuples, some thousands at a time."""
    result = connection.execution_options(yield_per=5000).execute(query)
    return (tuple(row) for row in result)


def metric_columns(
    connection: Connection, where: Sequence[ColumnElement[bool]], *, metric: ColumnElement[float], metrics: Table
) -> tuple[Nouns, NDArray[np.float64]]:
    """One row a run that has the metric, oldest first: bench, device, subject, conditions, environment (ids; −1: none), round, position, value."""
    t = schema.runs.c
    ids = (t.bench, t.device, t.subject, t.conditions, t.environment, t.round, t.position)
    query = select(*ids, metric).join_from(schema.runs, metrics, metrics.c.run == t.id)
    query = query.where(metric.is_not(None), *where).order_by(t.started_at, t.id)
    rows = connection.execute(query).fetchall()
    table = np.array([tuple(-1 if value is None else value for value in row) for row in rows], dtype=np.float64)
    return nouns(connection), table.reshape(-1, len(ids) + 1)


def whole_runs(connection: Connection, summaries: Mapping[int, RunSummary]) -> list[RunRecord]:
    """Records of runs whose summaries were read; those deleted meanwhile are left out."""
    parts = {table.name: _by_run(connection, table, list(summaries)) for table in schema.PARTS}
    return [
        _record(run, summary, {name: rows.get(run, []) for name, rows in parts.items()})
        for run, summary in summaries.items()
    ]


def _by_run(connection: Connection, table: Table, ids: Sequence[int]) -> dict[int, list[Fields]]:
    order = list(table.primary_key.columns)
    found: dict[int, list[Fields]] = {}
    for row in connection.execute(select(table).where(table.c.run.in_(ids)).order_by(*order)).mappings():
        found.setdefault(row["run"], []).append({**row})
    return found


def _record(run: int, summary: RunSummary, parts: Mapping[str, list[Fields]]) -> RunRecord:
    samples = {row["kind"]: _samples(row) for row in parts["samples"]}
    names = ("bench", "device", "subject", "conditions", *_RUN_FIELDS)
    return RunRecord(
        **{name: getattr(summary, name) for name in names},
        report=_report(summary, parts, samples) if parts["reports"] else None,
        samples_ns=samples.get("partial", ()),
        accuracy=_accuracy(parts["accuracies"]),
    )


def _samples(row: Fields) -> tuple[int, ...]:
    numbers: list[int] = unpacked(**{name: row[name] for name in ("dtype", "codec", "count", "data")}).tolist()
    return tuple(numbers)


def _report(
    summary: RunSummary, parts: Mapping[str, list[Fields]], samples: Mapping[str, tuple[int, ...]]
) -> AgentReport:
    states: dict[str, list[DeviceState]] = {"before": [], "during": [], "after": []}
    for row in parts["states"]:
        states[row["moment"]].append(from_json(DeviceState, row["content"]))
    layer_names = ("name", "kind", "mean_ms", "calls", "source_layer")
    return report_from_json(
        parts["reports"][0]["content"],
        environment=summary.environment,
        warmup_ns=samples["warmup"],
        samples_ns=samples["measured"],
        before=states["before"][0],
        during=tuple(states["during"]),
        after=states["after"][0],
        profile=tuple(LayerTime(**{name: row[name] for name in layer_names}) for row in parts["layers"]),
    )


def _accuracy(rows: Sequence[Fields]) -> Accuracy | None:
    if not rows:
        return None
    names = ("metric", "value", "inputs_sha256", "agreement", "max_steps")
    return Accuracy(correct=unpacked_answers(rows[0]["correct"]), **{name: rows[0][name] for name in names})
