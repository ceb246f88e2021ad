"""A run as one row: the columns that CSV and Parquet share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepack.records import METRICS, RunSummary

# Names and their kinds: 'text', 'integer', 'number', 'time'; the metrics follow.
COLUMNS: Mapping[str, str] = {
    "key": "text",
    "bench": "text",
    "started_at": "time",
    "transport": "text",
    "device": "text",
    "emulated": "text",
    "bundle": "text",
    "version": "text",
    "target": "text",
    "label": "text",
    "model_sha256": "text",
    "runtime": "text",
    "runtime_version": "text",
    "suite": "text",
    "threads": "integer",
    "round": "integer",
    "position": "integer",
    "attempt": "integer",
    "status": "text",
    "reason": "text",
    "clock": "text",
    "accuracy_samples": "integer",
    **dict.fromkeys(METRICS, "number"),
}


def row(run: RunSummary) -> dict[str, Any]:
    """The columns of a run; None where there is no value."""
    subject, environment = run.subject, run.environment
    return {
        **dict.fromkeys(COLUMNS),
        "key": run.key,
        "bench": run.bench,
        "started_at": run.started_at,
        "transport": run.device.transport,
        "device": run.device.name,
        "emulated": None if environment is None else environment.emulated,
        **{
            name: getattr(subject, name) for name in ("bundle", "version", "target", "label", "model_sha256", "runtime")
        },
        "runtime_version": None if environment is None else environment.runtime_version,
        "suite": run.conditions.suite,
        "threads": run.conditions.threads,
        **{name: getattr(run, name) for name in ("round", "position", "attempt", "status", "reason")},
        "clock": None if environment is None else environment.clock,
        "accuracy_samples": run.accuracy_samples,
        **{name: value for name, value in run.metrics.items() if name in METRICS},
    }
