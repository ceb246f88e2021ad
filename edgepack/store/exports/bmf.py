"""Bencher Metric Format (bencher.dev/docs/reference/bencher-metric-format): a benchmark for each series, a measure for each metric.

BMF has no place for a unit or a direction: a measure's name tells the unit, and a threshold's test is chosen in Bencher (upper boundary for
all but accuracy). `lower_value` and `upper_value` are the smallest and the largest run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import BinaryIO

from edgepack.store.exports import Kept
from edgepack.store.exports.figures import series_of

# Bencher's own measure `latency` counts nanoseconds, so ours has a name of its own. A measure's slug has at most 64 characters.
_MEASURES: Mapping[str, str] = {"guest_instructions": "guest-instructions-proxy"}


def write(runs: Iterable[Kept], stream: BinaryIO) -> None:
    """One JSON object."""
    found = {
        series.name: {
            measure(name): {"value": figure.value, "lower_value": figure.low, "upper_value": figure.high}
            for name, figure in series.figures.items()
        }
        for series in series_of(runs)
    }
    stream.write((json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def measure(metric: str) -> str:
    """The slug of a metric's measure.

    >>> measure("latency_p50_ms"), measure("guest_instructions")
    ('latency-p50-ms', 'guest-instructions-proxy')
    """
    return _MEASURES.get(metric, metric.replace("_", "-"))
