"""Resident memory of each row at the stages of a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.report.details import Detail
from edgepack.report.panels import Place, by_place
from edgepack.report.rows import Row

STAGES = {
    "before_load_bytes": "before load",
    "after_load_bytes": "after load",
    "after_first_bytes": "after first",
    "after_run_bytes": "after run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLine:
    """Medians over `runs` runs: `stages` in the order of STAGES, the peak, the proportional set size where the device told it.

    `otherwise` says of stages that this device measured in another way what they are. Runs without a peak are left out.
    """

    row: str
    stages: tuple[float, ...]
    peak_bytes: float
    pss_bytes: float | None
    major_faults: int
    runs: int
    peak_not_reset: str | None
    why_no_pss: str | None
    otherwise: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPanel:
    """Lines of one device."""

    place: Place
    lines: tuple[MemoryLine, ...]


def memories(rows: Sequence[Row], details: Sequence[Detail]) -> tuple[MemoryPanel, ...]:
    """A panel for each device with whole runs."""
    by_row: dict[str, list[Detail]] = {}
    for detail in details:
        if detail.report.memory.peak_bytes:
            by_row.setdefault(detail.row.id, []).append(detail)
    return tuple(
        MemoryPanel(place=place, lines=tuple(_line(row, by_row[row.id]) for row in group if row.id in by_row))
        for place, group in by_place(rows).items()
        if any(row.id in by_row for row in group)
    )


def _line(row: Row, details: Sequence[Detail]) -> MemoryLine:
    used = [detail.report.memory for detail in details]
    pss = [one.pss_bytes for one in used if one.pss_bytes is not None]
    return MemoryLine(
        row=row.id,
        stages=tuple(float(statistics.median(getattr(one, stage) for one in used)) for stage in STAGES),
        peak_bytes=float(statistics.median(one.peak_bytes for one in used)),
        pss_bytes=float(statistics.median(pss)) if pss else None,
        major_faults=max(one.major_faults for one in used),
        runs=len(used),
        otherwise=tuple(
            {name: why for one in used for name, why in one.missing.items() if name != "pss_bytes"}.items()
        ),
        why_no_pss=next((why for one in used if (why := one.missing.get("pss_bytes"))), None),
        peak_not_reset=next((one.peak_not_reset for one in used if one.peak_not_reset), None),
    )
