"""Measures a gate's models now: baseline and bundle in turns, in fresh processes, on each device."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.bench import BenchModel, BenchProtocol, BenchResult, bench
from edgepack.bundle import Bundle, read_bundle
from edgepack.core.files import cache_folder
from edgepack.core.types import Progress
from edgepack.devices.protocol import Transport
from edgepack.records import Conditions, RunRecord, Subject
from edgepack.runtimes import RUNTIME_OF_FORMAT

Open = Callable[[str], Transport]


def measurer(
    bundles: Mapping[str, Path], *, protocol: BenchProtocol, suite: str, open_device: Open, progress: Progress
) -> Callable[[str, int], Sequence[RunRecord]]:
    """A function that measures bundles (by label) on a device for so many rounds; every call is a bench of its own. Reads every bundle first."""
    opened = {label: read_bundle(path) for label, path in bundles.items()}
    for one in opened.values():
        one.verify()
    models = [_to_measure(label, one) for label, one in opened.items()]
    subjects = {model.label: _subject(model, opened[model.label]) for model in models}

    def measure(device: str, rounds: int) -> Sequence[RunRecord]:
        with open_device(device) as transport:
            result = bench(models, device=transport, protocol=replace(protocol, repetitions=rounds), progress=progress)
        return _records(result, subjects, suite=suite)

    return measure


def protocol_of(conditions: Conditions) -> BenchProtocol:
    """The protocol of stored runs, to measure once more as they were."""
    known = {field.name for field in fields(BenchProtocol)}
    given: dict[str, Any] = {name: value for name, value in conditions.protocol.items() if name in known}
    return BenchProtocol(**{**given, "threads": conditions.threads})


def _to_measure(label: str, opened: Bundle) -> BenchModel:
    about = opened.manifest.model
    model = opened.model_path(cache_folder() / "models")
    files = (model, *(model.parent / PurePosixPath(one.path).name for one in about.companions))
    return BenchModel(
        label=label,
        path=model,
        companions=files[1:],
        sha256=about.sha256,
        size_bytes=sum(file.stat().st_size for file in files),
        runtime=about.runtime or RUNTIME_OF_FORMAT[about.format],
        runtime_options=about.runtime_options,
    )


def _subject(model: BenchModel, opened: Bundle) -> Subject:
    about = opened.manifest
    return Subject(
        label=model.label,
        model_sha256=model.sha256,
        size_bytes=model.size_bytes,
        runtime=model.runtime,
        runtime_options=model.runtime_options,
        bundle=about.name,
        version=about.version,
        target=about.target,
    )


def _records(result: BenchResult, subjects: Mapping[str, Subject], *, suite: str) -> list[RunRecord]:
    name, started_at = str(uuid.uuid4()), datetime.now(UTC).isoformat()
    conditions = Conditions(suite=suite, protocol=asdict(result.protocol), threads=result.protocol.threads)
    return [
        RunRecord(
            bench=name,
            device=result.device,
            subject=subjects[run.label],
            conditions=conditions,
            round=run.round,
            position=position,
            attempt=1,
            started_at=started_at,
            status="complete",
            report=run.report,
        )
        for position, run in enumerate(result.runs)
    ]
