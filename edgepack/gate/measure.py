"""Measures a gate's models now: baseline and bundle in turns, in fresh processes, on each device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from edgepack.bench import BenchProtocol, bench
from edgepack.core.types import Progress
from edgepack.devices.protocol import Transport
from edgepack.opened import bench_model
from edgepack.records import Conditions, RunRecord

Open = Callable[[str], Transport]


def measurer(
    bundles: Mapping[str, Path], *, protocol: BenchProtocol, open_device: Open, progress: Progress
) -> Callable[[str, int], Sequence[RunRecord]]:
    """A function that measures bundles (by label) on a device for so many rounds; every call is a bench of its own. Reads every bundle first."""
    models = [bench_model(path, label=label) for label, path in bundles.items()]

    def measure(device: str, rounds: int) -> Sequence[RunRecord]:
        with open_device(device) as transport:
            return bench(
                models,
                device=transport,
                protocol=replace(protocol, repetitions=rounds),
                progress=progress,
                reopen=lambda: open_device(device),
            ).records

    return measure


def protocol_of(conditions: Conditions) -> BenchProtocol:
    """The protocol of stored runs, to measure once more as they were."""
    known = {field.name for field in fields(BenchProtocol)}
    given: dict[str, Any] = {name: value for name, value in conditions.protocol.items() if name in known}
    stated = {"suite": conditions.suite, "threads": conditions.threads, "cores": conditions.affinity}
    return BenchProtocol(**{**given, **stated})
