"""Where a report's runs come from: the results store, or files that `edgepack bench --save` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from edgepack.core.errors import UsageError
from edgepack.records import RunRecord, RunSummary
from edgepack.report.groups import is_profile
from edgepack.report.rows import Row
from edgepack.store.results import ResultStore, Where

_SCHEMA = "edgepack.bench/"


class Material(Protocol):
    """Runs of a report; whole ones and those of other benches are asked for once it is known which rows are drawn."""

    @property
    def runs(self) -> Iterable[RunSummary]: ...
    @property
    def by_bench(self) -> bool: ...
    def details(self, rows: Sequence[Row], *, limit: int) -> Iterable[RunRecord]: ...
    def history(self, rows: Sequence[Row]) -> Iterable[RunSummary]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Runs that are in memory."""

    runs: Iterable[RunSummary]
    whole: Iterable[RunRecord]
    others: Iterable[RunSummary] = ()
    by_bench: bool = False

    def details(self, rows: Sequence[Row], *, limit: int) -> Iterable[RunRecord]:
        return self.whole

    def history(self, rows: Sequence[Row]) -> Iterable[RunSummary]:
        return self.others


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Runs of a store. Whole runs are the newest of a row's latest bench; the history is of the rows' devices and bundles."""

    store: ResultStore
    runs: tuple[RunSummary, ...]
    by_bench: bool

    def details(self, rows: Sequence[Row], *, limit: int) -> Iterator[RunRecord]:
        for row in rows:
            where = Where(
                bench=row.latest_bench,
                device=f"{row.device.transport}:{row.device.name}",
                label=row.subject.label,
                model_sha256=row.subject.model_sha256,
                suite=row.conditions.suite,
                status="complete",
            )
            yield from self.store.runs(where, limit=limit)

    def history(self, rows: Sequence[Row]) -> Iterator[RunSummary]:
        places = {(f"{row.device.transport}:{row.device.name}", row.subject.bundle) for row in rows}
        for device, bundle in sorted(places, key=str):
            found = self.store.summaries(Where(device=device, bundle=bundle, status="complete"))
            yield from (run for run in found if run.subject.bundle == bundle and not is_profile(run.conditions))


def from_store(store: ResultStore, references: Sequence[str], where: Where) -> Stored:
    """Runs of the benches that the references name (Where fits all of them), or without any of all benches. Raises UsageError for none."""
    benches = list(dict.fromkeys(store.resolve(reference) for reference in references))
    wheres = [replace(where, bench=bench) for bench in benches] or [where]
    runs = tuple(run for one in wheres for run in store.summaries(one))
    if not runs:
        given = {name: value for name in Where.__dataclass_fields__ if (value := getattr(where, name)) is not None}
        asked = ", ".join([*references, *(f"{name} {value}" for name, value in given.items())])
        raise UsageError(f"report: no run fits ({asked}); 'edgepack results' lists what is there")
    return Stored(store=store, runs=runs, by_bench=len(benches) > 1)


def from_files(files: Sequence[Path]) -> Given:
    """Runs of bench.json files, several side by side. Raises UsageError for a file that is none."""
    records = [record for file in files for record in read_bench_file(file)]
    runs = [RunSummary.of(record) for record in records]
    by_bench = len({record.bench for record in records}) > 1
    return Given(runs=runs, whole=records, others=runs, by_bench=by_bench)


def read_bench_file(file: Path) -> list[RunRecord]:
    """The runs of a file that `edgepack bench --save` wrote, oldest first. Raises UsageError where it is none."""
    try:
        content: Any = json.loads(file.read_bytes())
    except OSError as exc:
        raise UsageError(f"{file}: can't be read ({exc.strerror}); give a bench.json, or a bench of the store") from exc
    except ValueError as exc:
        raise UsageError(f"{file}: is no JSON ({exc}); give a bench.json of 'edgepack bench --save'") from exc
    schema = content.get("schema") if isinstance(content, dict) else None
    records = content.get("records") if isinstance(content, dict) else None
    if not isinstance(schema, str) or not schema.startswith(_SCHEMA) or not isinstance(records, list):
        raise UsageError(
            f"{file}: holds no runs (schema {schema!r}, expected '{_SCHEMA}2' with 'records'); "
            "write it anew with 'edgepack bench --save'"
        )
    try:
        found = TypeAdapter(list[RunRecord]).validate_python(records)
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{file}: records.{place}: {first['msg']}; write it anew with 'edgepack bench --save'"
        ) from exc
    if not found:
        raise UsageError(f"{file}: holds no run; write it anew with 'edgepack bench --save'")
    return sorted(found, key=lambda run: (run.started_at, run.round, run.position))
