"""One combination made and judged, by the stages of a build: what they have kept is not made again."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepack.bench import BenchModel, BenchProtocol, bench
from edgepack.codec.wire_write import pack_wire
from edgepack.core.errors import EnvironmentProblem, RecipeError, did_you_mean
from edgepack.core.files import write_json
from edgepack.core.locks import exclusive
from edgepack.core.types import Progress
from edgepack.devices.address import open_device
from edgepack.plan import BuildPlan, Data, make_plan
from edgepack.plan.data import refuse_preprocess
from edgepack.recipe import CompressStep, Recipe
from edgepack.stages.check import check
from edgepack.stages.compress import compress
from edgepack.stages.evaluate import evaluate
from edgepack.stages.export import ExportedModel, baseline, export
from edgepack.stages.judge import judged_output
from edgepack.stages.load import Stored, load
from edgepack.stages.quality import metric_value
from edgepack.stages.samples import open_role, split
from edgepack.store.cache import StageCache
from edgepack.tune.budget import Budget
from edgepack.tune.numbers import Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Makes and judges combinations. `held_out` says on which samples: those that trials are chosen by, or the recipe's evaluation samples."""

    recipe: Recipe
    folder: Path
    work_folder: Path | None
    dist_folder: Path | None
    target: str
    device: str
    budget: Budget
    threads: int | None
    held_out: bool

    def plan(self, steps: tuple[CompressStep, ...]) -> BuildPlan:
        """The build of these steps. Raises RecipeError as `make_plan` does."""
        plan = make_plan(
            self.recipe.model_copy(update={"compress": steps}),
            target=self.target,
            folder=self.folder,
            work_folder=self.work_folder,
            dist_folder=self.dist_folder,
        )
        plan = replace(plan, witnesses=(), threads=self.threads or plan.threads)
        return on_selection(plan) if self.held_out else plan

    def numbers(self, steps: tuple[CompressStep, ...], progress: Progress) -> Numbers:
        """What the steps cost and give."""
        started = time.monotonic()
        plan = self.plan(steps)
        cache = StageCache(plan.work_folder)
        loaded = load(plan, cache, progress)
        exported = export(plan, cache, compress(plan, cache, loaded, progress), progress)
        (evaluated,) = evaluate([plan], cache, loaded, [None], [exported], progress)
        labels = open_role(plan, plan.evaluation, labelled=True).labels
        assert labels is not None and evaluated.original is not None
        judged = judged_output(plan, exported)
        before, after = (
            metric_value(outputs.arrays()[judged], labels, plan.recipe.metric.name)
            for outputs in (evaluated.original, evaluated.artifact)
        )
        latency, memory = self._measured(plan, cache, exported, progress)
        return Numbers(
            wire_bytes=wire_bytes(plan, cache, exported, progress),
            file_bytes=exported.artifact.size_bytes,
            accuracy=after,
            drop_points=100 * (before - after),
            latency_p50_ms=latency,
            peak_memory_bytes=memory,
            samples=len(labels),
            seconds=round(time.monotonic() - started, 2),
        )

    def training_samples(self) -> int:
        """How many samples trials train on; 0 without any."""
        plan = self.plan(())
        return 0 if plan.train is None else len(open_role(plan, plan.train))

    def original(self, steps: tuple[CompressStep, ...], progress: Progress) -> Numbers:
        """The float model as the target runs it. Refuses, before any search, what the target can't take once `steps` are applied."""
        plan = self.plan(steps)
        cache = StageCache(plan.work_folder)
        loaded = load(plan, cache, progress)
        self._refuse_unknown_layers(plan, loaded)
        check(plan, cache, baseline(plan, cache, loaded, progress), progress)
        return self.numbers((), progress)

    def _refuse_unknown_layers(self, plan: BuildPlan, loaded: Stored) -> None:
        """Raises RecipeError for a layer of tune.layers that has no weight, or isn't there."""
        if not self.recipe.tune.layers:
            return
        known = {name.removesuffix(".weight") for name, _ in loaded.open(plan).network.named_parameters()}
        for layer in self.recipe.tune.layers:
            if layer not in known:
                raise RecipeError(
                    f"tune.layers: the model has no layer '{layer}' with weights{did_you_mean(layer, known)}"
                )

    def _measured(
        self, plan: BuildPlan, cache: StageCache, exported: ExportedModel, progress: Progress
    ) -> tuple[float | None, int | None]:
        """Latency and memory on the device, one model at a time; None where the budget doesn't ask."""
        if not self.budget.measures:
            return None, None
        key = plan.key("tune-measure", exported.key, self.device, plan.target.limits.model_dump(mode="json"))

        def work(scratch: Path) -> dict[str, Any]:
            with exclusive(cache.root / "locks" / "tune-measure.lock"):
                return _bench(plan, exported, self.device, scratch, progress)

        facts = cache.facts(cache.run("measure", key, work, progress=progress))
        if self.budget.peak_memory_bytes is not None and facts["peak_memory_bytes"] is None:
            raise EnvironmentProblem(
                f"tune.max_memory: {self.device} can't tell a process's peak memory; leave it out here"
            )
        return facts["p50_ms"], facts["peak_memory_bytes"]


def on_selection(plan: BuildPlan) -> BuildPlan:
    """The plan with the samples that trials are chosen by in the place of the evaluation samples, which it doesn't see.

    Raises RecipeError where there are no labelled samples beside those.
    """
    tune = plan.recipe.tune
    if tune.selection is not None:
        from edgepack.data.fingerprint import DigestCache, fingerprint
        from edgepack.data.sections import resolve_section

        section = resolve_section(tune.selection, folder=plan.folder)
        refuse_preprocess(section, "tune.selection")
        found = fingerprint(section, folder=plan.folder, cache=DigestCache(plan.work_folder), role="tune.selection")
        if found == plan.evaluation.fingerprint:
            raise RecipeError(
                "tune.selection: these are the samples of data.evaluation, which judge the result; name others"
            )
        return replace(plan, evaluation=Data(role="tune.selection", section=section, fingerprint=found))
    if plan.train is None:
        raise RecipeError(
            "tune: trials are judged on samples held out of data.train, which is missing; add it, or give [tune] selection"
        )
    rest, apart = split(plan.train, held_out=tune.held_out, seed=plan.recipe.seed)
    if open_role(plan, apart).labels is None:
        raise RecipeError(
            "tune: trials are judged on samples held out of data.train, which have no labels; give data.train labels, or [tune] selection a table of samples that have them"
        )
    return replace(plan, train=rest, evaluation=apart)


def wire_bytes(plan: BuildPlan, cache: StageCache, exported: ExportedModel, progress: Progress) -> int:
    """Bytes of the model file, and of those beside it, as `edgepack pack` packs them."""

    def work(scratch: Path) -> dict[str, Any]:
        files = (exported.artifact.path, *exported.artifact.companions)
        by_name = {file.name: file.read_bytes() for file in files}
        packed = {name: len(pack_wire(data, name, beside=by_name.get).wire) for name, data in by_name.items()}
        write_json(scratch / "wire.json", packed)
        return {"wire_bytes": sum(packed.values())}

    facts = cache.facts(cache.run("wire-size", plan.key("wire-size", exported.key), work, progress=progress))
    return int(facts["wire_bytes"])


def _bench(
    plan: BuildPlan, exported: ExportedModel, device_name: str, scratch: Path, progress: Progress
) -> dict[str, Any]:
    artifact = exported.artifact
    model = BenchModel(
        label="trial",
        path=artifact.path,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        companions=artifact.companions,
        runtime=plan.target.runtime,
        runtime_options=plan.runtime.model_dump(mode="json"),
    )
    with open_device(device_name) as device:
        protocol = BenchProtocol(threads=plan.target.limits.threads)
        result = bench([model], device=device, protocol=protocol, progress=progress)
    write_json(scratch / "bench.json", result.as_dict())
    found = result.measurement("trial")
    if found.p50_ms is None:
        raise EnvironmentProblem(f"tune: {device_name} can't measure time; name another device with --device")
    memory = found.peak_memory_bytes
    return {"p50_ms": found.p50_ms, "peak_memory_bytes": None if memory is None else int(memory)}
