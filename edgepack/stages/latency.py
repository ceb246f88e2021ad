"""Latency of a network that is still being compressed: exported in float, run by the target's runtime on this machine, in turns with the original."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.core.digest import digest_of
from edgepack.core.errors import EnvironmentProblem
from edgepack.core.files import write_json
from edgepack.core.types import Array, Artifact, Progress, Silent
from edgepack.network.channels.by_latency import Latency
from edgepack.plan import BuildPlan
from edgepack.runtimes import Session
from edgepack.stages.evaluate import border
from edgepack.stages.samples import samples_of

if TYPE_CHECKING:
    from edgepack.network.model import Model

_WARM_UPS = 3
_ROUNDS = (30, 400)  # at least, at most
_SECONDS = 2.0  # at least, between the two


class LatencyMeter:
    """Times float models of a plan's target beside the original's file; `folder` keeps what was measured, so that a killed build goes on."""

    def __init__(self, plan: BuildPlan, original: Artifact, folder: Path, progress: Progress) -> None:
        self.plan, self.original, self.progress = plan, original, progress
        self.file = folder / "latency.json"

    def __call__(self, model: Model) -> Latency:
        """The latency of a network of these shapes; its values don't matter. Raises EnvironmentProblem where the target's device isn't here."""
        shapes = {name: list(value.shape) for name, value in model.network.state_dict().items()}
        key = digest_of([shapes, model.lineage[-1:]])
        known = json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else {}
        if key not in known:
            known[key] = self._measured(model)
            write_json(self.file, known)
        return Latency(ms=known[key]["ms"], original_ms=known[key]["original_ms"], where=self._where())

    def _measured(self, model: Model) -> dict[str, float]:
        plan = self.plan
        probe = samples_of(plan, plan.calibration, first=1)
        with tempfile.TemporaryDirectory(dir=self.file.parent, ignore_cleanup_errors=True) as folder:
            done = plan.exporter.check(model, probe, Path(folder), constraints=None, progress=Silent())
            ours, theirs = (plan.runtime.open(path, threads=1) for path in (done.path, self.original.path))
            elsewhere = next((note for note in ours.execution.notes if note.startswith("not run on")), "")
            if elsewhere:
                raise EnvironmentProblem(
                    f'compress.prune_channels: of = "latency" measures on the target\'s device, and {plan.target_name} was {elsewhere}'
                )
            ms, original_ms = in_turns(ours, theirs, border(plan, self.original.inputs, probe))
        self.progress.advance(note=f"{ms:.3g} ms, {ms / original_ms:.2f} of the original's")
        return {"ms": ms, "original_ms": original_ms}

    def _where(self) -> str:
        return f"float32, {self.plan.target.runtime} {self.plan.runtime.version()} for {self.plan.target_name}, one thread, this machine"


def in_turns(ours: Session, theirs: Session, inputs: Mapping[str, Array]) -> tuple[float, float]:
    """The fastest run of each in milliseconds, of many that alternate: what else the machine does slows both, and never speeds one up."""
    fastest = [float("inf"), float("inf")]
    start, rounds = time.perf_counter(), 0
    while rounds < _ROUNDS[0] or (rounds < _ROUNDS[1] and time.perf_counter() - start < _SECONDS):
        for index, session in enumerate((ours, theirs)):
            begin = time.perf_counter()
            session.run(inputs)
            if rounds >= _WARM_UPS:
                fastest[index] = min(fastest[index], 1000 * (time.perf_counter() - begin))
        rounds += 1
    return fastest[0], fastest[1]
