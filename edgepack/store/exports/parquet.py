"""Parquet: the columns of CSV with types; each metric's field says its unit and which direction is better. Needs pyarrow (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from edgepack.records import METRICS
from edgepack.store.exports import Kept
from edgepack.store.exports.columns import COLUMNS, row

_ROWS_A_GROUP = 10_000
_SAMPLES = ("warmup_ns", "samples_ns")
_TYPES = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "time": pa.timestamp("us", tz="UTC"),
}


def write(runs: Iterable[Kept], stream: BinaryIO) -> None:
    """Compressed by zstd, a row group every 10,000 runs; with samples the columns warmup_ns and samples_ns are lists."""
    rows = iter(runs)
    group = list(islice(rows, _ROWS_A_GROUP))
    schema = _schema(with_samples=group[0].record is not None)
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        while group:
            writer.write_table(pa.Table.from_pylist(list(_rows(group)), schema=schema))
            group = list(islice(rows, _ROWS_A_GROUP))


def _schema(*, with_samples: bool) -> Any:
    fields = [pa.field(name, _TYPES[kind], metadata=_about(name)) for name, kind in COLUMNS.items()]
    if with_samples:
        fields += [pa.field(name, pa.list_(pa.int64())) for name in _SAMPLES]
    return pa.schema(fields)


def _about(name: str) -> dict[str, str] | None:
    if name not in METRICS:
        return None
    better, unit = METRICS[name]
    return {"unit": unit, "better": better}


def _rows(group: Iterable[Kept]) -> Iterator[dict[str, Any]]:
    for kept in group:
        fields = row(kept.summary)
        fields["started_at"] = datetime.fromisoformat(kept.summary.started_at)
        if (record := kept.record) is not None:
            report = record.report
            fields["warmup_ns"] = [] if report is None else list(report.warmup_ns)
            fields["samples_ns"] = list(record.samples_ns if report is None else report.samples_ns)
        yield fields
