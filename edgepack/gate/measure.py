"""Measures a gate's models now: baseline and bundle in turns, in fresh processes, on each device."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgepack.bench import BenchModel, BenchProtocol, BenchSamples, bench
from edgepack.bench.on_device import protocol_on
from edgepack.bundle import read_bundle
from edgepack.core.types import Progress
from edgepack.gate.judge import BUNDLE, Measure
from edgepack.opened import bench_model, open_with_runtimes
from edgepack.records import Conditions, RunRecord

Keep = Callable[[RunRecord], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a gate measures: devices of `inventory` (devices.toml) may be named, `accuracy` is the recipe whose samples run, too.

    `provision` brings the runtimes to a device that lacks them, `target` says which model of bundles with several is meant, `keep` gets every run as it ends.
    """

    progress: Progress
    inventory: Path | None = None
    accuracy: Path | None = None
    provision: bool = False
    target: str | None = None
    keep: Keep | None = None


@contextmanager
def measurer(bundles: Mapping[str, Path], *, protocol: BenchProtocol, asking: Asking) -> Iterator[Measure]:
    """A function that measures bundles (by label) on a device for so many rounds; a second call for a device goes on with its bench.

    Every bundle is read and checked first, and the samples prepared once for all devices.
    """
    models = [bench_model(path, label=label, target=asking.target) for label, path in bundles.items()]
    runtimes = sorted({model.runtime for model in models}) if asking.provision else []
    begun: dict[str, tuple[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        samples = _samples(bundles, models, Path(folder), asking)

        def measure(device: str, rounds: int) -> Sequence[RunRecord]:
            name, done = begun.get(device, (None, 0))
            reach = partial(open_with_runtimes, device, asking.inventory, runtimes, asking.progress)
            with reach() as transport:
                result = bench(
                    models,
                    device=transport,
                    protocol=replace(protocol_on(device, protocol, inventory=asking.inventory), repetitions=rounds),
                    progress=asking.progress,
                    samples=samples,
                    keep=asking.keep,
                    reopen=reach,
                    bench_id=name,
                    first_round=done,
                )
            begun[device] = (result.bench, done + rounds)
            return result.records

        yield measure


def protocol_of(conditions: Conditions) -> BenchProtocol:
    """The protocol of stored runs, to measure once more as they were."""
    known = {field.name for field in fields(BenchProtocol)}
    given: dict[str, Any] = {name: value for name, value in conditions.protocol.items() if name in known}
    stated = {"suite": conditions.suite, "threads": conditions.threads, "cores": conditions.affinity}
    return BenchProtocol(**{**given, **stated})


def _samples(
    bundles: Mapping[str, Path], models: Sequence[BenchModel], folder: Path, asking: Asking
) -> BenchSamples | None:
    if asking.accuracy is None:
        return None
    from edgepack.bench.evaluation import evaluation_samples

    opened = {label: read_bundle(path) for label, path in bundles.items()}
    borders = {
        label: [item.as_signature() for item in one.variant_like(asking.target).inputs] for label, one in opened.items()
    }
    judged = opened[BUNDLE]
    return evaluation_samples(
        asking.accuracy,
        judged,
        models,
        borders,
        variant=judged.variant_like(asking.target),
        folder=folder,
        progress=asking.progress,
    )
