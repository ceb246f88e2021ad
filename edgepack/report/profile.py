"""Where the time of one inference goes: milliseconds by layer of the source model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.report.details import Detail
from edgepack.report.rows import Row

LAYERS_MAX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Operators of one source layer together; `is_source` is False where the file's operator leads to no layer."""

    name: str
    is_source: bool
    kinds: tuple[str, ...]
    operators: int
    ms: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Layers in the order they run; where they are many, the slowest, and `rest_ms` of `rest` others. Medians over `runs` profiled runs."""

    row: str
    runs: int
    total_ms: float
    layers: tuple[Layer, ...]
    rest: int
    rest_ms: float


def profiles(rows: Sequence[Row], details: Sequence[Detail]) -> tuple[Profile, ...]:
    """One for each row with a profiled run."""
    found = []
    for row in rows:
        runs = [one for one in details if one.row.id == row.id and one.report.profile]
        if runs:
            found.append(_profile(row, runs))
    return tuple(found)


def _profile(row: Row, runs: Sequence[Detail]) -> Profile:
    times: dict[tuple[str, bool], list[float]] = {}
    kinds: dict[tuple[str, bool], dict[str, None]] = {}
    operators: dict[tuple[str, bool], int] = {}
    for run in runs:
        sums: dict[tuple[str, bool], float] = {}
        counts: dict[tuple[str, bool], int] = {}
        for one in run.report.profile:
            key = (one.source_layer or one.name, one.source_layer is not None)
            sums[key] = sums.get(key, 0.0) + one.mean_ms
            counts[key] = counts.get(key, 0) + 1
            kinds.setdefault(key, {})[one.kind] = None
        operators |= counts
        for key, ms in sums.items():
            times.setdefault(key, []).append(ms)
    medians = {key: statistics.median(values) for key, values in times.items()}
    total = sum(medians.values())
    kept = set(sorted(medians, key=lambda key: (-medians[key], key))[:LAYERS_MAX])
    layers = tuple(
        Layer(
            name=key[0],
            is_source=key[1],
            kinds=tuple(kinds[key]),
            operators=operators[key],
            ms=ms,
            share=ms / total if total else 0.0,
        )
        for key, ms in medians.items()
        if key in kept
    )
    rest_ms = sum(ms for key, ms in medians.items() if key not in kept)
    return Profile(
        row=row.id, runs=len(runs), total_ms=total, layers=layers, rest=len(medians) - len(kept), rest_ms=rest_ms
    )
