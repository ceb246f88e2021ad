"""The build that a bundle comes from: its plan made again, and the models that it kept, proven to be those of this bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.core.digest import sha256_file
from edgepack.core.errors import UsageError
from edgepack.core.types import Progress
from edgepack.explain.names import grid_targets_of
from edgepack.methods.protocol import student_of
from edgepack.plan import BuildPlan, make_plans
from edgepack.recipe import find_recipe, load_recipe
from edgepack.stages.compress import step_key
from edgepack.stages.export import export_key
from edgepack.stages.load import Stored, load
from edgepack.stages.networks import known_network_keys
from edgepack.store.cache import StageCache

_CHANGED = (
    "the models that its steps made are not in the work folder: they were removed, or edgepack, a library, the recipe or its data have changed since. "
    "Build it here again ('edgepack build'), and explain that bundle"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBuild:
    """A build opened again. `steps` are the compression methods with the models after each; None, with the reason in `why_not`, where they are not those of the bundle."""

    plan: BuildPlan
    cache: StageCache
    loaded: Stored
    steps: tuple[tuple[str, Stored], ...] | None
    why_not: str | None

    @property
    def compressed(self) -> Stored | None:
        """The model that was exported; None where it is not known."""
        if self.steps is None:
            return None
        return self.steps[-1][1] if self.steps else self.loaded

    @property
    def before(self) -> tuple[str, Stored | None]:
        """The model that has the bundle's layers and lost nothing yet: the original, or the student that took its place; its name, and where it is kept."""
        places = [place for place, (_, method) in enumerate(self.plan.steps) if student_of(method) is not None]
        if not places:
            return "original", self.loaded
        return "student", None if self.steps is None else self.steps[places[-1]][1]


def kept_build(
    bundle: Bundle, variant: Variant, *, work_folder: Path, recipe: Path | None, progress: Progress
) -> KeptBuild:
    """The build of a variant. `recipe` is by default the file beside the work folder that the build read.

    Raises UsageError where the work folder or the original is not that of this bundle, RecipeError and DataError as `make_plans`.
    """
    lineage = variant.lineage
    stages: Any = lineage.get("stages")
    if not isinstance(stages, dict) or "load" not in stages:
        raise UsageError(
            f"{bundle.path}: it was made from a finished model file, of which no network is known; only bundles of trained networks tell this"
        )
    if not work_folder.is_dir():
        raise UsageError(
            f"{work_folder}: the work folder of this bundle's build is not there; build it here, or name the folder with --work-dir"
        )
    file = recipe or _recipe_of(work_folder.parent, str(lineage.get("recipe_sha256")))
    cache = StageCache(work_folder)
    loaded: Stored | None = None
    first: BuildPlan | None = None
    for plan in _plans(file, bundle, variant, work_folder):
        if loaded is None or first is None:
            first, loaded = plan, load(plan, cache, progress)
            _refuse_other_weights(bundle, lineage.get("weights_sha256"), loaded, file)
        found = KeptBuild(plan=plan, cache=cache, loaded=loaded, steps=_steps(plan, cache, loaded), why_not=None)
        if found.compressed is not None and export_key(plan, found.compressed.key) == stages.get("export"):
            return found
    assert first is not None and loaded is not None  # there is a plan of the bundle's target alone
    return KeptBuild(plan=first, cache=cache, loaded=loaded, steps=None, why_not=_CHANGED)


def _recipe_of(folder: Path, digest: str) -> Path:
    """The file in a folder that has the digest of the bundle's recipe, else the folder's recipe. Only local files are read: a recipe names code that runs."""
    for file in sorted(folder.glob("*.toml")):
        if sha256_file(file) == digest:
            return file
    return find_recipe(folder)


def _plans(file: Path, bundle: Bundle, variant: Variant, work_folder: Path) -> Iterator[BuildPlan]:
    """Plans of the variant's target, for each set of targets that may have shared its compression."""
    sets = (grid_targets_of(bundle, variant), tuple(load_recipe(file).targets), (variant.target,))
    for targets in dict.fromkeys(one for one in sets if variant.target in one):
        for plan in make_plans(file, targets=targets, work_folder=work_folder):
            if plan.target_name == variant.target:
                yield replace(plan, witnesses=())


def _steps(plan: BuildPlan, cache: StageCache, loaded: Stored) -> tuple[tuple[str, Stored], ...] | None:
    """The kept models of a plan's steps; None where one is missing."""
    found: list[tuple[str, Stored]] = []
    key = loaded.key
    for name, method in plan.steps:
        key = step_key(plan, key, name, method, known_network_keys(plan, cache, method) or ())
        if (folder := cache.find(name, key)) is None:
            return None
        found.append((name, Stored(key=key, folder=folder, loaded=loaded.folder)))
    return tuple(found)


def _refuse_other_weights(bundle: Bundle, digest: object, loaded: Stored, file: Path) -> None:
    if sha256_file(loaded.folder / "state.safetensors") != digest:
        raise UsageError(
            f"{file}: its model has other weights than the one that {bundle.path.name} was built from; name that build's recipe with --recipe, or build it again"
        )
