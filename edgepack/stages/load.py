"""Load: from the user's model to a float model on disk, checked."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from edgepack.core.digest import digest_of
from edgepack.core.files import out_of_space_is_clear
from edgepack.core.types import Progress
from edgepack.plan import BuildPlan
from edgepack.sources.networks import open_network
from edgepack.stages.imports import code_digests, imports_file, known_imports, remember_imports
from edgepack.store.cache import StageCache
from edgepack.updates import refuse_other_weights

if TYPE_CHECKING:
    from edgepack.network.model import Model

_SOURCE = "source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A model that a stage has written: its key, and the folder it lies in; `loaded` is the folder of the load stage where that is another one."""

    key: str
    folder: Path
    loaded: Path | None = None

    def open(self, plan: BuildPlan) -> Model:
        """Read it into a fresh network."""
        from edgepack.network.model import architecture_of, load_model
        from edgepack.network.runtime_setup import prepare

        prepare(threads=plan.threads, seed=plan.recipe.seed)
        other = architecture_of(self.folder)
        source = (
            plan.source
            if other is None
            else open_network(other, plan.folder, inputs=plan.inputs, seed=plan.recipe.seed)
        )
        return load_model(source.builder((self.loaded or self.folder) / _SOURCE), self.folder)


def load(plan: BuildPlan, cache: StageCache, progress: Progress) -> Stored:
    """The float model. Its key covers the weights and every code file that the factory turned out to import."""
    key = known_key(plan, cache)
    if key is not None and (folder := cache.find("load", key)) is not None:
        return Stored(key=key, folder=folder)
    from edgepack.network.model import save_model
    from edgepack.network.runtime_setup import prepare

    progress.start("Loading the model")
    prepare(threads=plan.threads, seed=plan.recipe.seed)
    with _converting(plan, cache, progress) as converted:
        model, dependencies = plan.source.load(converted)
        remember_imports(plan, cache, _origin(plan), dependencies)
        key = _key(plan, dependencies)

        def work(scratch: Path) -> dict[str, Any]:
            save_model(model, scratch)
            shutil.copytree(converted, scratch / _SOURCE)
            return {"parameters": sum(parameter.numel() for parameter in model.network.parameters())}

        folder = cache.run("load", key, work, progress=progress)
    progress.done(f"{cache.facts(folder)['parameters']:,} parameters")
    return Stored(key=key, folder=folder)


def refuse_other_base(plans: Sequence[BuildPlan], loaded: Stored) -> None:
    """Raises RecipeError where the bundle that a build updates is one of another architecture."""
    bases = [plan.base for plan in plans if plan.base is not None]
    if bases:
        with safe_open(loaded.folder / "state.safetensors", framework="numpy") as state:
            shapes = {name: tuple(state.get_slice(name).get_shape()) for name in state.keys()}  # noqa: SIM118  # no mapping
        for base in bases:
            refuse_other_weights(base, shapes)


def known_key(plan: BuildPlan, cache: StageCache) -> str | None:
    """The float model's key, by the code files that the factory imported last time; None before the first load."""
    known = known_imports(plan, cache, _origin(plan))
    return None if known is None else _key(plan, known)


@contextmanager
def _converting(plan: BuildPlan, cache: StageCache, progress: Progress) -> Iterator[Path]:
    """An empty folder to load into: the stage's own has no name until the code that the model depends on is known.

    Named and locked as every half-made stage, so that `edgepack cache prune` knows it as one.
    """
    stages = cache.root / "stages"
    with cache.locked("load", digest_of(str(imports_file(plan, cache, _origin(plan)))), progress=progress):
        with out_of_space_is_clear(stages):
            stages.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=stages, prefix=".part-load-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)


def _key(plan: BuildPlan, dependencies: tuple[Path, ...]) -> str:
    digests = code_digests(plan, (*plan.source.files(), *dependencies))
    return plan.key("load", plan.recipe.model.model_dump(mode="json"), digests, _versions(plan.source.tools))


def _origin(plan: BuildPlan) -> str:
    about = plan.recipe.model
    return str(about.factory or about.file)


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
