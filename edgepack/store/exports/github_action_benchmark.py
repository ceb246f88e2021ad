"""JSON of benchmark-action/github-action-benchmark, tools `customSmallerIsBetter` and `customBiggerIsBetter`: a file holds one direction only."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import BinaryIO

from edgepack.core.errors import UsageError
from edgepack.store.exports import Kept
from edgepack.store.exports.figures import Figure, Series, series_of


def write_smaller(runs: Iterable[Kept], stream: BinaryIO) -> None:
    """Metrics of which less is better."""
    _write(runs, stream, direction="lower")


def write_bigger(runs: Iterable[Kept], stream: BinaryIO) -> None:
    """Metrics of which more is better."""
    _write(runs, stream, direction="higher")


def _write(runs: Iterable[Kept], stream: BinaryIO, *, direction: str) -> None:
    entries = [
        _entry(series, figure)
        for series in series_of(runs)
        for figure in series.figures.values()
        if figure.direction == direction
    ]
    if not entries:
        raise UsageError(f"nothing to export: these runs have no metric of which {direction} is better")
    stream.write((json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _entry(series: Series, figure: Figure) -> dict[str, str | float]:
    """`range` is what stands beside the value, in the form that the action reads (extractRangeInfo.ts); `extra` is the tooltip."""
    facts = [
        f"median of {figure.runs} process runs ({figure.low:.6g} … {figure.high:.6g})",
        f"model {series.subject.model_sha256}",
        f"{series.subject.runtime} {series.runtime_version}",
    ]
    if series.emulated:
        facts.append(f"emulated by {series.emulated}: no time of a real device")
    return {
        "name": f"{series.name}: {figure.metric}",
        "unit": figure.unit,
        "value": figure.value,
        "range": f"± {max(figure.high - figure.value, figure.value - figure.low):.6g}",
        "extra": "\n".join(facts),
    }
