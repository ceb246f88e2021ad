"""Many devices at a glance: each model's devices in the order of a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.records import METRICS
from edgepack.report.groups import KINDS, Kind
from edgepack.report.rows import Row

DEVICES_MIN = 12
_BESIDE_TIME = ("peak_memory_bytes", "accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLine:
    """One model: its rows from the smallest to the largest value."""

    rows: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPanel:
    """One metric of all devices of a kind, so never of emulated ones beside real ones."""

    kind: Kind
    metric: str
    unit: str
    lines: tuple[FleetLine, ...]


def fleets(rows: Sequence[Row]) -> tuple[FleetPanel, ...]:
    """Panels of every kind with DEVICES_MIN devices at least, of metrics that differ between devices."""
    found = []
    for kind, metric_of_time in KINDS.items():
        mine = [row for row in rows if row.kind == kind]
        if len({row.device for row in mine}) < DEVICES_MIN:
            continue
        for metric in (metric_of_time, *_BESIDE_TIME):
            lines = tuple(line for line in _lines(mine, metric) if len(line.values) > 1)
            if any(line.values[0] < line.values[-1] for line in lines):
                found.append(FleetPanel(kind=kind, metric=metric, unit=METRICS[metric][1], lines=lines))
    return tuple(found)


def _lines(rows: Sequence[Row], metric: str) -> list[FleetLine]:
    models: dict[tuple[object, ...], list[tuple[float, str]]] = {}
    for row in rows:
        value = row.numbers[metric].value
        if value is not None:
            subject = row.subject
            place = (row.environment.runtime_version, row.conditions.threads, row.bench)
            models.setdefault((subject.label, subject.model_sha256, subject.runtime, *place), []).append(
                (value, row.id)
            )
    return [
        FleetLine(rows=tuple(identity for _, identity in ordered), values=tuple(value for value, _ in ordered))
        for ordered in map(sorted, models.values())
    ]
