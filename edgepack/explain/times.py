"""How long the layers of a model take on this machine: its operators timed, and summed by the operation of the network that they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack.bench import BenchProtocol
from edgepack.bundle.manifest import Variant
from edgepack.core.types import Progress
from edgepack.opened import bench

# One profiled process is what is wanted: the timed runs around it are as short as a bench allows.
_PROTOCOL = BenchProtocol(warmup_min_s=0, warmup_max_s=0.2, duration_min_s=0.2, iterations_min=100, repetitions=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """Mean milliseconds in one inference: by operation of the network, and of all operators together."""

    of: Mapping[str, float]
    total_ms: float


def layer_times(path: Path, variant: Variant, *, work_folder: Path | None, progress: Progress) -> LayerTimes:
    """Run a bundle's variant here with its operators timed. Raises what `edgepack.opened.bench` raises."""
    measured = bench(
        path, target=variant.target, profile=True, work_folder=work_folder, protocol=_PROTOCOL, progress=progress
    )
    times: dict[str, float] = {}
    profile = measured.profile("bundle")
    for one in profile:
        if one.source_layer is not None:
            times[one.source_layer] = times.get(one.source_layer, 0.0) + one.mean_ms
    return LayerTimes(of=times, total_ms=sum(one.mean_ms for one in profile))
