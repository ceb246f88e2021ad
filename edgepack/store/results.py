"""The results store: every run of a benchmark, kept in SQLite or PostgreSQL. docs/results.md says what is kept and where."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from sqlalchemy import func, select

from edgepack.core.errors import UsageError, did_you_mean
from edgepack.records import DeviceName, RunRecord, RunSummary, Status, Subject
from edgepack.store.sql import schema
from edgepack.store.sql.connect import open_engine, reading, writing
from edgepack.store.sql.filter import conditions_of
from edgepack.store.sql.insert import add_runs, delete_bench
from edgepack.store.sql.migrate import prepare
from edgepack.store.sql.place import Place, place_of
from edgepack.store.sql.query import metric_columns, nouns, run_summaries, whole_runs

if TYPE_CHECKING:
    from edgepack.store.values import Values

_RUNS_A_TRANSACTION = 500
_WHOLE_RUNS_AT_ONCE = 100
_LATEST = re.compile(r"latest(?:~(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which runs: those that fit every field that is given.

    `device` is a name, or a transport and a name ('ssh:pi5'); `model_sha256` and `key` (a run's) may be the first digits; `since` is a date or
    time (ISO 8601, UTC unless it says otherwise).
    """

    bench: str | None = None
    device: str | None = None
    bundle: str | None = None
    version: str | None = None
    target: str | None = None
    label: str | None = None
    model_sha256: str | None = None
    runtime: str | None = None
    suite: str | None = None
    status: Status | None = None
    since: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What became of runs that were added: new, better than the attempt that was kept before, or there already."""

    inserted: int
    replaced: int
    ignored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSummary:
    """One call of `edgepack bench`: when its first run began (UTC, ISO 8601), on which devices, what it measured, its runs by status."""

    bench: str
    started_at: str
    devices: tuple[DeviceName, ...]
    subjects: tuple[Subject, ...]
    suites: tuple[str, ...]
    runs: Mapping[Status, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt at a run that is not the kept one."""

    attempt: int
    started_at: str
    status: Status
    reason: str | None


class ResultStore:
    """Runs in a database. Several processes may read and write at once; every method is one transaction or several whole ones."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._engine = open_engine(place)
        try:
            self._metrics = schema.metrics_table(prepare(self._engine, place))
        except BaseException:
            self._engine.dispose()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def add(self, runs: Iterable[RunRecord]) -> Added:
        """Keep runs, some hundreds a transaction. A run that is there already is ignored, unless the one that is kept is worse:

        a complete run is never replaced; a void one by a complete one, a partial one by both, a failed one by all three; of two alike the later
        attempt is kept. Raises EnvironmentProblem where the database can't take them; then the transactions that ended are kept.
        """
        inserted = replaced = ignored = 0
        for batch in _batches(runs):
            with writing(self._engine, self.place) as connection:
                counts = add_runs(connection, batch, metrics=self._metrics)
            inserted, replaced, ignored = (
                inserted + counts.inserted,
                replaced + counts.replaced,
                ignored + counts.ignored,
            )
        return Added(inserted=inserted, replaced=replaced, ignored=ignored)

    def summaries(self, where: Where = Where(), *, limit: int | None = None) -> list[RunSummary]:
        """Runs without samples, oldest first; with `limit` the newest so many. What many share (devices, subjects …) is one object."""
        with reading(self._engine, self.place) as connection:
            found = run_summaries(connection, conditions_of(where), metrics=self._metrics, limit=limit)
        return list(found.values())

    def values(self, metric: str, where: Where = Where()) -> Values:
        """One metric of many runs as arrays, oldest first; runs without it are left out. Raises UsageError for an unknown metric."""
        from edgepack.store.values import values_of

        if metric not in self._metrics.c or metric == "run":
            known = [column.name for column in self._metrics.columns if column.name != "run"]
            raise UsageError(f"unknown metric '{metric}'{did_you_mean(metric, known)}")
        with reading(self._engine, self.place) as connection:
            column = self._metrics.c[metric]
            shared, rows = metric_columns(connection, conditions_of(where), metric=column, metrics=self._metrics)
        return values_of(metric, shared, rows)

    def runs(self, where: Where = Where(), *, limit: int | None = None) -> Iterator[RunRecord]:
        """Whole runs with their samples, oldest first; with `limit` the newest so many."""
        with reading(self._engine, self.place) as connection:
            found = run_summaries(connection, conditions_of(where), metrics=self._metrics, limit=limit)
        for batch in _batched(found):
            with reading(self._engine, self.place) as connection:
                records = whole_runs(connection, batch)
            yield from records

    def benches(self, where: Where = Where()) -> list[BenchSummary]:
        """Every bench with runs that fit, oldest first; it counts only those."""
        t = schema.runs.c
        groups = (t.bench, t.status, t.device, t.subject, t.conditions)
        query = select(*groups, func.count()).where(*conditions_of(where)).group_by(*groups).order_by(*groups)
        with reading(self._engine, self.place) as connection:
            rows = connection.execute(query).fetchall()
            started = select(schema.benches.c.id, schema.benches.c.started_at)
            started = started.order_by(schema.benches.c.started_at, schema.benches.c.id)
            order = dict(connection.execute(started).all())
            shared = nouns(connection)
        found: dict[int, list[tuple[str, int, int, int, int]]] = {}
        for bench, *rest in rows:
            found.setdefault(bench, []).append(tuple(rest))
        return [
            BenchSummary(
                bench=shared.benches[bench],
                started_at=started_at,
                devices=tuple(dict.fromkeys(shared.devices[row[1]] for row in found[bench])),
                subjects=tuple(shared.subjects[subject] for subject in dict.fromkeys(row[2] for row in found[bench])),
                suites=tuple(dict.fromkeys(shared.conditions[row[3]].suite for row in found[bench])),
                runs=_by_status(found[bench]),
            )
            for bench, started_at in order.items()
            if bench in found
        ]

    def attempts(self, key: str) -> list[Attempt]:
        """The attempts at a run that are not the kept one, in order."""
        table = schema.attempts.c
        query = select(table.attempt, table.started_at, table.status, table.reason)
        query = query.join(schema.runs, schema.runs.c.id == table.run).where(schema.runs.c.key == key)
        with reading(self._engine, self.place) as connection:
            rows = connection.execute(query.order_by(table.attempt)).mappings().fetchall()
        return [Attempt(**row) for row in rows]

    def resolve(self, reference: str) -> str:
        """A bench's id from itself, the first characters that no other has, 'latest' or 'latest~2' (two before). Raises UsageError."""
        names = self._bench_names()
        if not names:
            raise UsageError(f"'{reference}': results store {self.place.shown} is empty: run 'edgepack bench' first")
        if match := _LATEST.fullmatch(reference):
            back = int(match[1] or 0)
            if back >= len(names):
                raise UsageError(f"'{reference}': there are {len(names)} benches in {self.place.shown}")
            return names[-1 - back]
        if reference in names:
            return reference
        fitting = [name for name in names if reference and name.startswith(reference)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            listed = ", ".join(name[: len(reference) + 8] for name in fitting[:4])
            raise UsageError(f"'{reference}': {len(fitting)} benches begin so ({listed} …): give more of it")
        hint = "'edgepack results' lists them; 'latest' is the last one"
        raise UsageError(f"'{reference}': no bench of that id in {self.place.shown}: {hint}")

    def delete(self, bench: str) -> int:
        """Remove a bench, by its whole id, with its runs; how many runs that were."""
        with writing(self._engine, self.place) as connection:
            return delete_bench(connection, bench)

    def _bench_names(self) -> list[str]:
        """Oldest first."""
        table = schema.benches.c
        with reading(self._engine, self.place) as connection:
            return list(connection.execute(select(table.name).order_by(table.started_at, table.id)).scalars())


def open_store(url: str | None = None) -> ResultStore:
    """The store at a URL or file, else at $EDGEPACK_STORE, else in the user's data folder; made if it isn't there.

    Raises UsageError for a text that names no store, EnvironmentProblem for one that can't be opened.
    """
    return ResultStore(place_of(url))


def _batches(runs: Iterable[RunRecord]) -> Iterator[dict[str, RunRecord]]:
    """By key; the same key twice begins a new batch."""
    batch: dict[str, RunRecord] = {}
    for run in runs:
        key = run.key
        if key in batch or len(batch) == _RUNS_A_TRANSACTION:
            yield batch
            batch = {}
        batch[key] = run
    if batch:
        yield batch


def _batched(found: Mapping[int, RunSummary]) -> Iterator[dict[int, RunSummary]]:
    items = iter(found.items())
    while batch := dict(itertools.islice(items, _WHOLE_RUNS_AT_ONCE)):
        yield batch


def _by_status(rows: Iterable[tuple[str, int, int, int, int]]) -> dict[Status, int]:
    found: Counter[str] = Counter()
    for status, *_, count in rows:
        found[status] += count
    return cast("dict[Status, int]", dict(found))
