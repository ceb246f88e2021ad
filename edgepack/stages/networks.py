"""Networks: the students and teachers that compression steps name, loaded and checked before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepack.core.digest import digest_of
from edgepack.core.errors import SourceError
from edgepack.core.types import Progress
from edgepack.methods.protocol import Method, Phase, networks_of, student_of, trainings_of
from edgepack.plan import BuildPlan
from edgepack.recipe import NetworkSection
from edgepack.sources.networks import named_network, open_network
from edgepack.stages.imports import code_digests, known_imports, remember_imports
from edgepack.stages.load import Stored
from edgepack.store.cache import StageCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The networks of a plan's steps, by the digest of the table that names them. `student` is the one that takes the model's place."""

    stored: Mapping[str, Stored]
    student: Stored | None

    def of(self, section: NetworkSection) -> Stored:
        """The network that a table names."""
        return self.stored[_identity(section)]


def load_networks(plan: BuildPlan, cache: StageCache, loaded: Stored, progress: Progress) -> Networks:
    """Every network that the steps name, each built once.

    Raises SourceError, with the step's place in the recipe, for one that can't be built or has other outputs than the model, and RecipeError for modules of
    `features` that aren't there.
    """
    stored: dict[str, Stored] = {}
    student: Stored | None = None
    for index, (name, method) in enumerate(plan.steps):
        for inner, section in networks_of(method).items():
            place = f"compress.{index} ({name})" + (f": {inner}" if inner else "")
            found = stored.get(_identity(section)) or _loaded(plan, cache, section, place, progress)
            _refuse_other_outputs(loaded, found, place)
            stored[_identity(section)] = found
        own = student_of(method)
        student = student if own is None else stored[_identity(own)]
    networks = Networks(stored=stored, student=student)
    _refuse_unknown_features(plan, loaded, networks)
    return networks


def known_network_keys(plan: BuildPlan, cache: StageCache, method: Method) -> list[str] | None:
    """The keys of a step's networks, by the code that they imported last time; None before the first load of one."""
    keys = [_known_key(plan, cache, section) for section in networks_of(method).values()]
    known = [key for key in keys if key is not None]
    return known if len(known) == len(keys) else None


def _loaded(plan: BuildPlan, cache: StageCache, section: NetworkSection, place: str, progress: Progress) -> Stored:
    """A network as a stage of its own. Its key covers the weights and every code file that the factory imports."""
    key = _known_key(plan, cache, section)
    if key is not None and (folder := cache.find("network", key)) is not None:
        return Stored(key=key, folder=folder)
    from edgepack.network.model import save_model
    from edgepack.network.runtime_setup import prepare

    progress.start(f"Building {section.factory}")
    prepare(threads=plan.threads, seed=plan.recipe.seed)
    source = open_network(section, plan.folder, inputs=plan.inputs, seed=plan.recipe.seed)
    with named_network(place):
        model, imported = source.load(plan.folder)  # a factory leaves nothing there
    remember_imports(plan, cache, section.factory, imported)
    key = _key(plan, section, imported)

    def work(scratch: Path) -> dict[str, Any]:
        save_model(replace(model, architecture=section), scratch)
        return {"parameters": sum(parameter.numel() for parameter in model.network.parameters())}

    folder = cache.run("network", key, work, progress=progress)
    progress.done(f"{cache.facts(folder)['parameters']:,} parameters")
    return Stored(key=key, folder=folder)


def _known_key(plan: BuildPlan, cache: StageCache, section: NetworkSection) -> str | None:
    imported = known_imports(plan, cache, section.factory)
    return None if imported is None else _key(plan, section, imported)


def _key(plan: BuildPlan, section: NetworkSection, imported: tuple[Path, ...]) -> str:
    source = open_network(section, plan.folder, inputs=plan.inputs, seed=plan.recipe.seed)
    return plan.key(
        "network",
        section.model_dump(mode="json"),
        [item.model_dump(mode="json") for item in plan.inputs],
        plan.recipe.seed,
        code_digests(plan, (*source.files(), *imported)),
    )


def _identity(section: NetworkSection) -> str:
    return digest_of(section.model_dump(mode="json"))


def _refuse_other_outputs(loaded: Stored, network: Stored, place: str) -> None:
    wanted, found = (_output_shapes(one.folder) for one in (loaded, network))
    if wanted != found:
        raise SourceError(
            f"{place}: gives {_listed(found)}, the model gives {_listed(wanted)} (batch first); return the same outputs in the same order"
        )


def _output_shapes(folder: Path) -> list[list[int]]:
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return [item["shape"] for item in content["outputs"]]


def _listed(shapes: list[list[int]]) -> str:
    return f"{len(shapes)} output{'s' if len(shapes) > 1 else ''} of shape " + ", ".join(map(str, shapes))


def _refuse_unknown_features(plan: BuildPlan, loaded: Stored, networks: Networks) -> None:
    """Ask each training's modules of the networks as they are before the first step: none of the later ones is started in vain."""
    learner = loaded
    is_factored = False
    for index, (name, method) in enumerate(plan.steps):
        student = student_of(method)
        learner = learner if student is None else networks.of(student)
        for inner, train in trainings_of(method).items():
            if not train.features:
                continue
            from edgepack.network.losses import refuse_unknown_modules

            where = f"compress.{index} ({name}): {inner}.features"
            ours, theirs = zip(*train.feature_pairs, strict=True)
            teacher = loaded if train.teacher is None else networks.of(train.teacher)
            refuse_unknown_modules(teacher.open(plan).network, theirs, where=f"{where}: the teacher")
            if not is_factored:  # else a layer may have become others, and the training itself asks
                refuse_unknown_modules(learner.open(plan).network, ours, where=f"{where}: the network that learns")
        is_factored = is_factored or method.phase is Phase.FACTORS
