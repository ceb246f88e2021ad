"""Load: from the user's code and weights to a float model on disk, checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.core.digest import digest_of
from edgepack.core.files import write_json
from edgepack.core.types import Progress
from edgepack.plan import BuildPlan, file_digests
from edgepack.sources import SOURCES
from edgepack.store.cache import StageCache

if TYPE_CHECKING:
    from torch import nn

    from edgepack.network.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A model that a stage has written: its key, and the folder it lies in."""

    key: str
    folder: Path

    def open(self, plan: BuildPlan) -> Model:
        """Read it into a fresh network."""
        from edgepack.network.model import load_model
        from edgepack.network.runtime_setup import prepare

        prepare(threads=plan.threads, seed=plan.recipe.seed)
        return load_model(builder(plan), self.folder)


def builder(plan: BuildPlan) -> Callable[[], nn.Module]:
    """Makes fresh float networks of the plan's architecture."""
    model: Model = _source(plan).build_again()
    return model.build


def load(plan: BuildPlan, cache: StageCache, progress: Progress) -> Stored:
    """The float model. Its key covers the weights and every code file that the factory turned out to import."""
    known = _read_dependencies(plan, cache)
    if known is not None:
        key = _key(plan, known)
        if (folder := cache.find("load", key)) is not None:
            return Stored(key=key, folder=folder)
    from edgepack.network.model import save_model
    from edgepack.network.runtime_setup import prepare

    progress.start("Loading the model")
    prepare(threads=plan.threads, seed=plan.recipe.seed)
    model, dependencies = _source(plan).load()
    write_json(_dependencies_file(plan, cache), [str(path) for path in dependencies])
    key = _key(plan, dependencies)

    def work(scratch: Path) -> dict[str, Any]:
        save_model(model, scratch)
        return {"parameters": sum(parameter.numel() for parameter in model.network.parameters())}

    folder = cache.run("load", key, work, progress=progress)
    progress.done(f"{cache.facts(folder)['parameters']:,} parameters")
    return Stored(key=key, folder=folder)


def _source(plan: BuildPlan) -> Any:
    return SOURCES.load("torch_factory")(section=plan.recipe.model, folder=plan.folder)


def _key(plan: BuildPlan, dependencies: tuple[Path, ...]) -> str:
    files = tuple(sorted({*_source(plan).files(), *dependencies}))
    digests = [[_placeless(file, plan.folder), digest] for file, digest in file_digests(files).items()]
    return plan.key("load", plan.recipe.model.model_dump(mode="json"), sorted(digests))


def _placeless(file: Path, folder: Path) -> str:
    """The file's name without the place of the project or of Python: the same project has the same keys, and bundle, everywhere."""
    roots = [folder, *sorted((Path(entry) for entry in sys.path if entry), key=lambda root: -len(root.parts))]
    return next((str(file.relative_to(root)) for root in roots if file.is_relative_to(root)), file.name)


def _dependencies_file(plan: BuildPlan, cache: StageCache) -> Path:
    return cache.root / "dependencies" / f"{digest_of([str(plan.folder), plan.recipe.model.factory])[:20]}.json"


def _read_dependencies(plan: BuildPlan, cache: StageCache) -> tuple[Path, ...] | None:
    file = _dependencies_file(plan, cache)
    try:
        return tuple(Path(item) for item in json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
