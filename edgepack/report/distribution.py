"""How the samples of each row are distributed, and the medians of its runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepack.report.details import Detail
from edgepack.report.panels import DIVISOR, UNIT, Place, by_place
from edgepack.report.rows import Row

BINS = 72
# The axis ends at this share of the samples: a handful of interruptions would squeeze all others into one bar.
SHOWN_SHARE = 0.97
_TAIL = 1.5  # of the width from the fastest sample to p90
_RUNS_DRAWN_MAX = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One row's distribution: `shares` of its samples in the panel's bins, `beyond` of them above the last, up to `largest`.

    Times are in the panel's unit; only its bins are relative.

    `medians` are of the drawn runs in the order they ran; `runs` counts all. `drawn_runs` of them gave the samples.
    """

    row: str
    shares: tuple[float, ...]
    beyond: float
    largest: float
    samples: int
    drawn_runs: int
    medians: tuple[float, ...]
    runs: int
    p50: float
    p90: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionPanel:
    """The lanes of one device. `edges` are of bins in times the row's own p50 (1.0 is the p50), so that rows compare in how much they vary."""

    place: Place
    unit: str
    edges: tuple[float, ...]
    lanes: tuple[Lane, ...]


def distributions(rows: Sequence[Row], details: Sequence[Detail]) -> tuple[DistributionPanel, ...]:
    """A panel for each device with samples."""
    by_row: dict[str, list[Detail]] = {}
    for detail in details:
        if detail.samples:
            by_row.setdefault(detail.row.id, []).append(detail)
    return tuple(
        _panel(place, [row for row in group if row.id in by_row], by_row)
        for place, group in by_place(rows).items()
        if any(row.id in by_row for row in group)
    )


def _panel(place: Place, rows: Sequence[Row], by_row: dict[str, list[Detail]]) -> DistributionPanel:
    weighted = {row.id: _weighted(by_row[row.id], DIVISOR[place.kind]) for row in rows}
    low = min(float(weighted[row.id][0].min()) / row.speed for row in rows)
    high = max(_end(weighted[row.id], row) / row.speed for row in rows)
    edges = _edges(low, high)
    lanes = tuple(_lane(row, weighted[row.id], edges, by_row[row.id]) for row in rows)
    return DistributionPanel(
        place=place, unit=UNIT[place.kind], edges=tuple(float(edge) for edge in edges), lanes=lanes
    )


Points = tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]


def _weighted(details: Sequence[Detail], divisor: float) -> Points:
    """The points of all runs, sorted, each with how many samples it stands for."""
    values = np.concatenate([np.asarray(one.points) for one in details]) / divisor
    weights = np.concatenate([np.full(len(one.points), one.samples / len(one.points)) for one in details])
    order = np.argsort(values, kind="stable")
    return values[order], weights[order]


def _end(points: Points, row: Row) -> float:
    """Where the axis may end for a row: at SHOWN_SHARE of its samples, but a long tail makes no hill flat; all run medians are on it."""
    values, weights = points
    place = int(np.searchsorted(np.cumsum(weights), SHOWN_SHARE * weights.sum()))
    at_share = float(values[min(place, len(values) - 1)])
    p90 = _ranks(row)[1] or at_share
    return max(min(at_share, p90 + _TAIL * (p90 - float(values[0]))), p90, *row.run_values)


def _ranks(row: Row) -> tuple[float, float | None, float | None]:
    """p50, and p90 and p99 where the row has them."""
    prefix = row.metric.rpartition("_p50")[0]
    p90, p99 = (row.numbers.get(f"{prefix}_p{rank}_ms") for rank in (90, 99))
    return row.speed, p90.value if p90 else None, p99.value if p99 else None


def _edges(low: float, high: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    margin = max((high - low) * 0.03, 1e-5)  # all samples may be equal, as instructions often are
    return np.linspace(max(0.0, low - margin), high + margin, BINS + 1)


def _lane(
    row: Row, points: Points, edges: np.ndarray[tuple[int], np.dtype[np.float64]], details: Sequence[Detail]
) -> Lane:
    values, weights = points
    total = float(weights.sum())
    counts, _ = np.histogram(values / row.speed, bins=edges, weights=weights)
    beyond = float(weights[values / row.speed > edges[-1]].sum()) / total
    picks = row.run_values
    if len(picks) > _RUNS_DRAWN_MAX:
        places = np.linspace(0, len(picks) - 1, _RUNS_DRAWN_MAX).round().astype(int)
        picks = tuple(picks[place] for place in places)
    p50, p90, p99 = _ranks(row)
    return Lane(
        row=row.id,
        shares=tuple(round(float(count) / total, 6) for count in counts),
        beyond=beyond,
        largest=float(values[-1]),
        samples=math.floor(total + 0.5),
        drawn_runs=len(details),
        medians=picks,
        runs=row.runs,
        p50=p50,
        p90=p90,
        p99=p99,
    )
