"""The measurements behind an explanation's losses, each kept in the work folder of the build."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgepack.core.files import write_json
from edgepack.core.types import Array, Progress, SampleSource
from edgepack.explain.build import KeptBuild
from edgepack.explain.facts import Sensitivity
from edgepack.explain.loss_path import contributions_along
from edgepack.explain.original_form import in_original_form, layer_tensors
from edgepack.network.model import Model, as_tensors, predict
from edgepack.network.sensitivity import Reference, exchanged, plain_network, weight_sensitivity
from edgepack.plan import code_digest
from edgepack.stages.load import Stored
from edgepack.stages.quality import metric_drop
from edgepack.stages.samples import open_role, samples_of

_CODE = ("explain/loss_meter.py", "explain/loss_path.py", "explain/original_form.py")
_FEW = slice(0, 4)
_KEPT_IN_MEMORY_BYTES = 256_000_000
_BATCH = 32
_MISSED_MOST, _NO_DISTANCE = 0.2, 1e-6
_NOT_SMOOTH = "the outputs move too unevenly between the original's weights and the compressed ones to say whose share it is; see 'alone'"


@dataclass(slots=True, kw_only=True)
class LossMeter:
    """Measures, and keeps what it has measured in the work folder."""

    build: KeptBuild
    before: Stored
    asked: Sensitivity
    progress: Progress
    _opened: Model | None = None

    @property
    def original(self) -> Model:
        if self._opened is None:
            self._opened = self.before.open(self.build.plan)
        return self._opened

    def sensitivity(self, names: Sequence[str]) -> dict[str, Any]:
        """`of` has distance and sqnr_db by weight name; `samples` is on how many."""

        def work(_scratch: Path) -> dict[str, Any]:
            samples = samples_of(self.build.plan, self.build.plan.calibration, first=self.asked.samples)
            found = weight_sensitivity(
                self.original, samples, bits=self.asked.bits, names=names, progress=self.progress
            )
            return {
                "samples": len(samples),
                "of": {one.weight: [one.output_distance, one.sqnr_db] for one in found},
            }

        return self._kept("sensitivity", work, list(names), self.asked.bits)

    def shares(self, names: Sequence[str]) -> dict[str, Any]:
        """`share` and `alone` by weight name, `distance` and `weights_distance` of the whole network, `other` the share of what is in no layer; or `why_not`."""

        def work(_scratch: Path) -> dict[str, Any]:
            samples = samples_of(self.build.plan, self.build.plan.calibration, first=self.asked.samples)
            compressed = self._compressed()
            self.progress.start("Distance of the outputs", total=len(names) + 2)
            reference = Reference(self.original, self.original.network, samples)
            distance = reference.distance(compressed.network)
            self.progress.advance(note=f"all {distance:.3g}")
            facts: dict[str, Any] = {
                "distance": distance,
                "weights_distance": reference.distance(plain_network(compressed)),
            }
            self.progress.advance(note=f"all weights {facts['weights_distance']:.3g}")
            state, why_not = in_original_form(self.original, compressed, as_tensors(self.original, samples.take(_FEW)))
            if why_not is not None:
                self.progress.done("not layer by layer")
                return {**facts, "why_not": why_not}
            layers = self._layers(names)
            alone = {}
            for name, tensors in layers.items():
                with self._exchanged(tensors, state) as network:
                    alone[name] = reference.distance(network)
                self.progress.advance(note=f"{name} alone {alone[name]:.3g}")
            self.progress.done()
            found = contributions_along(self.original, state, samples, self.progress)
            whole = sum(found.values())
            facts |= {"alone": alone}
            if abs(whole - facts["weights_distance"]) > _MISSED_MOST * facts["weights_distance"] + _NO_DISTANCE:
                return {**facts, "why_not": _NOT_SMOOTH}
            share = (
                {name: sum(found.get(one, 0.0) for one in tensors) / whole for name, tensors in layers.items()}
                if whole > 0
                else {}
            )
            return {**facts, "share": share, "other": 1 - sum(share.values())}

        return self._kept("loss-shares", work, list(names))

    def points(self, names: Sequence[str]) -> dict[str, Any]:
        """By weight name the points of the metric that the original loses with the bundle's layer alone, and their interval."""
        plan = self.build.plan

        def work(_scratch: Path) -> dict[str, Any]:
            state, _ = in_original_form(self.original, self._compressed(), self.original.example())
            file = self.build.cache.workspace(key) / "points.json"
            done: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            opened = open_role(plan, plan.evaluation, labelled=True)
            source = opened.all() if opened.size_bytes <= _KEPT_IN_MEMORY_BYTES else opened
            self.progress.start("Points that each layer costs", total=len(names) + 1)
            assert source.labels is not None  # opened as labelled
            own = self._judged(source)
            self.progress.advance(1 + len(done))
            for name, tensors in self._layers(names).items():
                if name not in done:
                    with self._exchanged(tensors, state):
                        drop, interval = metric_drop(own, self._judged(source), source.labels, plan.recipe.metric.name)
                    done[name] = [drop, list(interval)]
                    write_json(file, done)
                    self.progress.advance(note=f"{name} {drop:+.2f}")
            self.progress.done(f"{len(own)} samples")
            return {"of": done}

        key = self._key("loss-points", list(names), dict(plan.evaluation.fingerprint), plan.recipe.metric.name)
        folder = self.build.cache.run("loss-points", key, work, progress=self.progress)
        return dict(self.build.cache.facts(folder)["of"])

    def _judged(self, source: SampleSource) -> Array:
        """The output that the metric reads, of the original's network as it is now, for all evaluation samples."""
        judged = self.build.plan.recipe.metric.output or self.original.outputs[0].name
        parts = [
            predict(self.original, source.take(slice(start, start + _BATCH)), batch_size=_BATCH)[judged]
            for start in range(0, len(source), _BATCH)
        ]
        return np.concatenate(parts)

    def _compressed(self) -> Model:
        assert self.build.compressed is not None
        return self.build.compressed.open(self.build.plan)

    def _layers(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The tensors of each layer by its weight's name."""
        parts = layer_tensors(self.original)
        return {name: parts.get(name, (name,)) for name in names}

    @contextmanager
    def _exchanged(self, tensors: Sequence[str], state: Mapping[str, torch.Tensor]) -> Iterator[nn.Module]:
        """The original's network with some tensors as `state` has them."""
        own = self.original.network.state_dict()
        with ExitStack() as around:
            for name in tensors:
                around.enter_context(exchanged(own[name], state[name]))
            yield self.original.network

    def _kept(self, stage: str, work: Callable[[Path], dict[str, Any]], *parts: Any) -> dict[str, Any]:
        folder = self.build.cache.run(stage, self._key(stage, *parts), work, progress=self.progress)
        return self.build.cache.facts(folder)

    def _key(self, stage: str, *parts: Any) -> str:
        plan, compressed = self.build.plan, self.build.compressed
        return plan.key(
            stage,
            self.before.key,
            None if compressed is None or stage == "sensitivity" else compressed.key,
            self.asked.samples,
            dict(plan.calibration.fingerprint),
            list(plan.preprocess),
            code_digest(_CODE),
            *parts,
        )
