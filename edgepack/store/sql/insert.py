"""Writes runs: idempotent by their key, and the better of two attempts is kept. Called inside a writing transaction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from edgepack.core.digest import sha256_bytes
from edgepack.records import AgentReport, Conditions, DeviceName, DeviceState, Environment, RunRecord, Status, Subject
from edgepack.store.sql import schema
from edgepack.store.sql.codec import Fields, packed, packed_answers, report_to_json, to_json

# A run of a higher rank replaces one of a lower: whole ones count in comparisons, void ones are whole but break a rule.
RANK: Mapping[Status, int] = {"complete": 3, "void": 2, "partial": 1, "failed": 0}
_KEYS_AT_ONCE = 500


@dataclass(slots=True, kw_only=True)
class Counts:
    """What became of the runs that were handed over."""

    inserted: int = 0
    replaced: int = 0
    ignored: int = 0


@dataclass(slots=True, kw_only=True)
class _Rows:
    """Rows to insert, by table."""

    of: dict[str, list[Fields]] = field(default_factory=dict)

    def add(self, table: Table, row: Fields) -> None:
        self.of.setdefault(table.name, []).append(row)


def add_runs(connection: Connection, records: Mapping[str, RunRecord], *, metrics: Table) -> Counts:
    """Insert or replace runs, by key; none is there twice."""
    counts = Counts()
    kept = _kept(connection, list(records))
    fresh = {key: record for key, record in records.items() if key not in kept}
    better = {key: record for key, record in records.items() if key in kept and _is_better(record, kept[key])}
    counts.inserted, counts.replaced = len(fresh), len(better)
    counts.ignored = len(records) - len(fresh) - len(better)
    _remember_attempts(connection, kept, records, better)
    if fresh or better:
        ids = _write(connection, fresh, better, kept)
        _write_parts(connection, {ids[key]: record for key, record in {**fresh, **better}.items()}, metrics)
    return counts


def _kept(connection: Connection, keys: Sequence[str]) -> dict[str, Any]:
    t = schema.runs.c
    columns = (t.id, t.key, t.status, t.attempt, t.attempts, t.started_at, t.reason)
    found: dict[str, Any] = {}
    for first in range(0, len(keys), _KEYS_AT_ONCE):
        query = select(*columns).where(t.key.in_(keys[first : first + _KEYS_AT_ONCE]))
        found |= {row.key: row for row in connection.execute(query)}
    return found


def _is_better(record: RunRecord, kept: Any) -> bool:
    """Of two that are not complete and rank the same, the later attempt."""
    new, old = RANK[record.status], RANK[kept.status]
    return new > old or (new == old < RANK["complete"] and record.attempt > kept.attempt)


def _remember_attempts(
    connection: Connection,
    kept: Mapping[str, Any],
    records: Mapping[str, RunRecord],
    better: Mapping[str, RunRecord],
) -> None:
    """Note the attempts that are not kept, once each; the same attempt again is the same result sent twice."""
    rows = []
    for key, old in kept.items():
        new = records[key]
        if new.attempt == old.attempt:
            continue
        other = old if key in better else new
        names = ("attempt", "started_at", "status", "reason")
        rows.append({"run": old.id, **{name: getattr(other, name) for name in names}})
        highest = max(old.attempts, new.attempt)
        connection.execute(update(schema.runs).where(schema.runs.c.id == old.id).values(attempts=highest))
    if rows:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(dialect.insert(schema.attempts).on_conflict_do_nothing(), rows)


def _write(
    connection: Connection, fresh: Mapping[str, RunRecord], better: Mapping[str, RunRecord], kept: Mapping[str, Any]
) -> dict[str, int]:
    """The rows of `runs` themselves; answers with their ids by key."""
    nouns = _Nouns(connection, [*fresh.values(), *better.values()])
    if fresh:
        rows = [{"key": key, "attempts": record.attempt, **nouns.row(record)} for key, record in fresh.items()]
        connection.execute(insert(schema.runs), rows)
    for key, record in better.items():
        run = kept[key].id
        connection.execute(update(schema.runs).where(schema.runs.c.id == run).values(**nouns.row(record)))
        for name in ("metrics", *(part.name for part in schema.PARTS)):
            connection.exec_driver_sql(f"DELETE FROM {name} WHERE run = {int(run)}")
    return {key: row.id for key, row in _kept(connection, [*fresh, *better]).items()}


class _Nouns:
    """The ids of what many runs share; rows that are missing are made."""

    def __init__(self, connection: Connection, records: Sequence[RunRecord]) -> None:
        self._connection = connection
        self._texts: dict[int, str] = {}  # by identity: records of one bench share their nouns
        self._devices = self._ids(schema.devices, [(r.device, _device_row) for r in records])
        self._subjects = self._ids(schema.subjects, [(r.subject, _subject_row) for r in records])
        self._conditions = self._ids(schema.conditions, [(r.conditions, _conditions_row) for r in records])
        found = [(r.report.environment, _environment_row) for r in records if r.report is not None]
        self._environments = self._ids(schema.environments, found)
        self._benches = self._bench_ids(records)

    def row(self, record: RunRecord) -> Fields:
        """What a run's row says of a record."""
        names = ("round", "position", "attempt", "started_at", "status", "reason")
        report = record.report
        return {
            "bench": self._benches[record.bench],
            "device": self._devices[self._text(record.device)],
            "subject": self._subjects[self._text(record.subject)],
            "conditions": self._conditions[self._text(record.conditions)],
            "environment": None if report is None else self._environments[self._text(report.environment)],
            **{name: getattr(record, name) for name in names},
        }

    def _text(self, noun: object) -> str:
        if id(noun) not in self._texts:
            self._texts[id(noun)] = to_json(noun)
        return self._texts[id(noun)]

    def _ids(self, table: Table, nouns: Iterable[tuple[Any, Any]]) -> dict[str, int]:
        """Ids by the noun's JSON."""
        rows = {(text := self._text(noun)): {**row_of(noun), "content": text} for noun, row_of in nouns}
        digests = {text: sha256_bytes(text.encode()) for text in rows}
        ids = self._find(table, "digest", list(digests.values()))
        missing = [{**rows[text], "digest": digest} for text, digest in digests.items() if digest not in ids]
        if missing:
            self._connection.execute(insert(table), missing)
            ids |= self._find(table, "digest", [row["digest"] for row in missing])
        return {text: ids[digest] for text, digest in digests.items()}

    def _bench_ids(self, records: Sequence[RunRecord]) -> dict[str, int]:
        started: dict[str, str] = {}
        for record in records:
            started[record.bench] = min(record.started_at, started.get(record.bench, record.started_at))
        table = schema.benches
        ids = self._find(table, "name", list(started))
        missing = [{"name": name, "started_at": at} for name, at in started.items() if name not in ids]
        for name in ids:
            earlier = update(table).where(table.c.name == name, table.c.started_at > started[name])
            self._connection.execute(earlier.values(started_at=started[name]))
        if missing:
            self._connection.execute(insert(table), missing)
        return self._find(table, "name", list(started))

    def _find(self, table: Table, name: str, values: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for first in range(0, len(values), _KEYS_AT_ONCE):
            wanted = table.c[name].in_(values[first : first + _KEYS_AT_ONCE])
            rows = self._connection.execute(select(table.c[name], table.c.id).where(wanted))
            found |= dict(rows.all())
        return found


def _device_row(device: DeviceName) -> Fields:
    return {"transport": device.transport, "name": device.name}


def _subject_row(subject: Subject) -> Fields:
    return {
        name: getattr(subject, name) for name in ("label", "model_sha256", "runtime", "bundle", "version", "target")
    }


def _conditions_row(conditions: Conditions) -> Fields:
    return {"suite": conditions.suite}


def _environment_row(_environment: Environment) -> Fields:
    return {}


def _write_parts(connection: Connection, records: Mapping[int, RunRecord], metrics: Table) -> None:
    """What hangs on a run: metrics, samples, states, profile, accuracy and the rest of the report."""
    rows = _Rows()
    known = {column.name for column in metrics.columns}
    for run, record in records.items():
        _collect(rows, run, record, known)
    for table in (metrics, *schema.PARTS):
        if found := rows.of.get(table.name):
            connection.execute(insert(table), found)


def _collect(rows: _Rows, run: int, record: RunRecord, known: set[str]) -> None:
    if record.samples_ns:
        rows.add(schema.samples, {"run": run, "kind": "partial", **packed(record.samples_ns)})
    if record.accuracy is not None:
        names = ("metric", "value", "inputs_sha256", "agreement", "max_steps")
        found = {name: getattr(record.accuracy, name) for name in names}
        rows.add(schema.accuracies, {"run": run, **found, **packed_answers(record.accuracy.correct)})
    if (report := record.report) is None:
        return
    numbers = {name: value for name, value in record.metrics.items() if name in known and math.isfinite(value)}
    rows.of.setdefault("metrics", []).append({"run": run, **dict.fromkeys(known - {"run"}), **numbers})
    rows.add(schema.reports, {"run": run, "content": report_to_json(report)})
    rows.add(schema.samples, {"run": run, "kind": "warmup", **packed(report.warmup_ns)})
    rows.add(schema.samples, {"run": run, "kind": "measured", **packed(report.samples_ns)})
    for row in _states(report):
        rows.add(schema.states, {"run": run, **row})
    for place, layer in enumerate(report.profile):
        names = ("name", "kind", "mean_ms", "calls", "source_layer")
        rows.add(schema.layers, {"run": run, "place": place, **{name: getattr(layer, name) for name in names}})


def _states(report: AgentReport) -> Iterable[Fields]:
    moments: dict[str, tuple[DeviceState, ...]] = {
        "before": (report.before,),
        "during": report.during,
        "after": (report.after,),
    }
    for moment, states in moments.items():
        for place, state in enumerate(states):
            yield {
                "moment": moment,
                "place": place,
                "at_s": state.at_s,
                "temperature_c": state.temperature_c,
                "throttled": None if state.throttled is None else int(state.throttled),
                "content": to_json(state),
            }


def delete_bench(connection: Connection, bench: str) -> int:
    """Remove a bench's runs with all that hangs on them, and nouns that no run needs any more; how many runs there were."""
    t = schema.runs.c
    number = select(schema.benches.c.id).where(schema.benches.c.name == bench).scalar_subquery()
    count = connection.execute(select(func.count()).select_from(schema.runs).where(t.bench == number)).scalar() or 0
    connection.execute(delete(schema.runs).where(t.bench == number))
    connection.execute(delete(schema.benches).where(schema.benches.c.name == bench))
    for table, column in (
        (schema.devices, t.device),
        (schema.subjects, t.subject),
        (schema.conditions, t.conditions),
        (schema.environments, t.environment),
    ):
        used = select(1).where(column == table.c.id).exists()
        connection.execute(delete(table).where(~used))
    return int(count)
