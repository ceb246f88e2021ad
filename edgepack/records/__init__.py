"""The nouns of a benchmark: what a device reports of one process, its numbers by name, and the run that is kept of it.

`devices/agent.py` reads them from the agent's answer, `bench/` makes runs of them, `store/` keeps them, `report/`, `compare/` and `gate/` read them.
A value that a device doesn't tell is None, and `missing` of the same record says why.
"""

from __future__ import annotations

from edgepack.records.metrics import METRICS, Accuracy, metrics_of
from edgepack.records.process import (
    AgentReport,
    Clock,
    DeviceState,
    Energy,
    Environment,
    Execution,
    LayerTime,
    MemoryUse,
)
from edgepack.records.runs import Conditions, DeviceName, RunRecord, RunSummary, Status, Subject

__all__ = [
    "METRICS",
    "Accuracy",
    "AgentReport",
    "Clock",
    "Conditions",
    "DeviceName",
    "DeviceState",
    "Energy",
    "Environment",
    "Execution",
    "LayerTime",
    "MemoryUse",
    "RunRecord",
    "RunSummary",
    "Status",
    "Subject",
    "metrics_of",
]
