"""Recipe + target + flags → BuildPlan: every name resolved, every file opened and every option decoded before anything expensive.

Nothing here imports torch; a plan of a build with nothing to do costs a fraction of a second.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepack.bundle.update_base import Base
from edgepack.core.digest import digest_of
from edgepack.core.errors import RecipeError, UnsupportedError
from edgepack.core.files import require_free_space, require_writable
from edgepack.core.paths import expand
from edgepack.core.section import validate
from edgepack.data.answers import plain_answer_steps
from edgepack.data.fingerprint import DigestCache
from edgepack.data.samples import plain_steps
from edgepack.exporters import EXPORTERS, FORMAT_OF_EXPORTER
from edgepack.exporters.protocol import Exporter, ExportOptions
from edgepack.grouping import group_targets, numbers_of
from edgepack.methods.protocol import Method
from edgepack.plan.code import BUNDLE_CODE, code_digest, code_files, file_digests, tool_versions
from edgepack.plan.data import Data, data_of
from edgepack.plan.steps import (
    check_networks,
    refuse_elsewhere,
    refuse_exporters,
    refuse_steps,
    refuse_unlabelled,
    steps_of,
)
from edgepack.recipe import InputSection, Recipe, find_recipe, load_recipe
from edgepack.runtimes import RUNTIMES, Runtime
from edgepack.sources import open_source
from edgepack.sources.protocol import Source
from edgepack.targets import NumericConstraints, TargetProfile, load_target
from edgepack.updates import base_of

__all__ = [
    "BUNDLE_CODE",
    "WORK_FOLDER",
    "BuildPlan",
    "Data",
    "code_digest",
    "code_files",
    "file_digests",
    "make_plan",
    "make_plans",
    "tool_versions",
]
WORK_FOLDER = ".edgepack"
_SPACE_NEEDED_BYTES = 500_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """One build for one target with nothing left to look up.

    `constraints` is the grid of the target's group: what all of `grid_targets` can represent, so that their compression is done once;
    `apart_because` says why that is not the grid of the build's first target ('' where it is). `base` is the older model that is updated; then the grid
    is its grid.
    """

    recipe: Recipe
    recipe_file: Path
    folder: Path
    target_name: str
    target: TargetProfile
    constraints: NumericConstraints
    grid_targets: tuple[str, ...]
    apart_because: str
    exporter: Exporter
    runtime: Runtime
    witnesses: tuple[tuple[str, Runtime], ...]
    source: Source
    inputs: tuple[InputSection, ...]
    steps: tuple[tuple[str, Method], ...]
    preprocess: tuple[dict[str, Any], ...]
    postprocess: tuple[dict[str, Any], ...] | None
    train: Data | None
    calibration: Data
    evaluation: Data
    labels: tuple[str, ...] | None
    texts: Mapping[str, bytes]
    work_folder: Path
    dist_folder: Path
    threads: int
    allow_failed_checks: bool
    base: Base | None
    base_key: str

    @property
    def bundle_path(self) -> Path:
        """Where the finished bundle goes."""
        bundle = self.recipe.bundle
        return self.dist_folder / f"{bundle.name}-{bundle.version}-{self.target_name}.edgepack"

    def key(self, *parts: Any) -> str:
        """A stage's key: the digest of its own inputs, our code and every tool's version."""
        return digest_of([self.base_key, *parts])


def make_plan(recipe: Recipe | Path, *, target: str | None = None, **places: Any) -> BuildPlan:
    """The plan of a build for one target: `target`, or the first of the recipe. See `make_plans`."""
    return make_plans(recipe, targets=None if target is None else (target,), **places)[0]


def make_plans(
    recipe: Recipe | Path,
    *,
    targets: Sequence[str] | None = None,
    folder: Path | None = None,
    work_folder: Path | None = None,
    dist_folder: Path | None = None,
    allow_failed_checks: bool = False,
) -> tuple[BuildPlan, ...]:
    """Resolve everything for each target. `recipe` is a file, a folder that holds one, or a Recipe made in Python (then `folder` says what its paths
    are relative to); `targets` are those of the recipe by default.

    Raises RecipeError, SourceError, DataError or EnvironmentProblem, each with where, what and what to do.
    """
    recipe_file = find_recipe(recipe) if isinstance(recipe, Path) else (folder or Path.cwd()) / "edgepack.toml"
    read = load_recipe(recipe) if isinstance(recipe, Path) else recipe
    folder = (folder or recipe_file.parent).resolve()
    names = tuple(dict.fromkeys(read.targets if targets is None else targets))
    profiles = {name: load_target(name, folder) for name in names}
    steps = steps_of(read, str(recipe_file))
    numbers = numbers_of(profiles, steps, folder, where=str(recipe_file))
    _refuse_border(read, numbers, where=str(recipe_file))
    plug_ins = {name: _plug_ins(read, name, profile, numbers[name]) for name, profile in profiles.items()}
    groups = group_targets(numbers)
    postprocess = None if read.bundle.postprocess is None else plain_answer_steps(read.bundle.postprocess)
    work_folder = (work_folder or folder / WORK_FOLDER).resolve()
    require_writable(work_folder)
    digests = DigestCache(work_folder)
    train, calibration, evaluation = data_of(read, folder, digests, where=str(recipe_file), steps=steps)
    refuse_unlabelled(steps, train, folder, where=str(recipe_file))
    source = open_source(read.model, folder)
    refuse_steps(source, steps, str(recipe_file))
    _refuse_targets(source, profiles)
    refuse_exporters(profiles, steps, str(recipe_file))
    source.files()
    inputs = source.inputs()
    check_networks(steps, folder, inputs, where=str(recipe_file), seed=read.seed)
    if any(name == "quantize" for name, _ in steps):
        from edgepack.network.nncf_extension import check_compiler

        check_compiler()
    for group in groups:
        refuse_elsewhere(steps, group.targets[0], plug_ins[group.targets[0]][1], str(recipe_file))
    require_free_space(work_folder, needed_bytes=_SPACE_NEEDED_BYTES, purpose="a build")
    file = None if read.update_of is None else expand(read.update_of, folder=folder, error=RecipeError)
    plans = []
    for name in names:
        group = next(group for group in groups if name in group.targets)
        base = None if file is None else base_of(file, group, name, inputs=inputs, steps=steps)
        exporter, runtime, witnesses = plug_ins[name]
        plans.append(
            BuildPlan(
                recipe=read,
                recipe_file=recipe_file,
                folder=folder,
                target_name=name,
                target=profiles[name],
                constraints=group.constraints if base is None else NumericConstraints.model_validate(base.constraints),
                grid_targets=group.targets,
                apart_because=group.apart_because,
                exporter=exporter,
                runtime=runtime,
                witnesses=witnesses,
                source=source,
                inputs=inputs,
                steps=steps,
                preprocess=tuple(plain_steps(read.preprocess)),
                postprocess=postprocess,
                train=train,
                calibration=calibration,
                evaluation=evaluation,
                labels=_labels(read, folder),
                texts=_texts(read, folder),
                work_folder=work_folder,
                dist_folder=(dist_folder or folder / "dist").resolve(),
                threads=read.threads or len(os.sched_getaffinity(0)),
                allow_failed_checks=allow_failed_checks,
                base=None if base is None else replace(base, tolerance=read.update_tolerance),
                base_key=digest_of([code_digest(), tool_versions()]),
            )
        )
    return tuple(plans)


def _refuse_border(recipe: Recipe, numbers: Mapping[str, NumericConstraints], *, where: str) -> None:
    """Raises RecipeError where int8 is asked for at the border of a network that has no int8 activations."""
    wanted = recipe.export
    is_wide = any(one.activations_bits > 8 for one in numbers.values())
    if is_wide and wanted.io_dtype == "int8" and "io_dtype" in wanted.model_fields_set:
        raise RecipeError(
            f'{where}: export.io_dtype: "int8" goes with 8-bit activations; leave it out, then the app gives and takes float32, or quantize with activations_bits = 8'
        )


def _plug_ins(
    recipe: Recipe, name: str, profile: TargetProfile, numbers: NumericConstraints
) -> tuple[Exporter, Runtime, tuple[tuple[str, Runtime], ...]]:
    """The target's exporter, its runtime and its witnesses with their options decoded."""
    wanted = recipe.export
    options = ExportOptions(
        io_dtype=wanted.io_dtype if numbers.activations_bits == 8 else "float32",
        nhwc_inputs=wanted.io_layout == "NHWC",
        float_dtype=wanted.float_dtype,
        dynamic_batch=wanted.dynamic_batch,
    )
    where = f"targets/{name}.toml"
    exporter_kind: Any = EXPORTERS.load(profile.exporter)
    runtime_kind: Any = RUNTIMES.load(profile.runtime)
    given = {"options": options, **profile.exporter_options}
    exporter: Exporter = validate(exporter_kind, given, where=f"{where}: exporter_options")
    runtime: Runtime = validate(runtime_kind, profile.runtime_options, where=f"{where}: runtime_options")
    witnesses = []
    for witness in profile.witnesses:
        kind: Any = RUNTIMES.load(witness)
        witnesses.append((witness, validate(kind, {}, where=f"{where}: witnesses")))
    return exporter, runtime, tuple(witnesses)


def _refuse_targets(source: Source, profiles: Mapping[str, TargetProfile]) -> None:
    """Raises UnsupportedError for a target that takes another format than that of a finished model."""
    finished = source.abilities.finished
    for name, profile in profiles.items():
        if finished and FORMAT_OF_EXPORTER.get(profile.exporter) != finished:
            raise UnsupportedError(
                f"target '{name}' takes {FORMAT_OF_EXPORTER.get(profile.exporter, profile.exporter)} files and this model is a finished {finished} file; "
                "choose a target that takes it, or start from the float model"
            )


def _texts(recipe: Recipe, folder: Path) -> dict[str, bytes]:
    """Text files that the recipe names and a bundle carries as they are, by entry name."""
    about = recipe.bundle
    named = (("license_file", "LICENSE", about.license_file), ("vocabulary", "vocabulary.txt", about.vocabulary))
    found = {}
    for key, entry, place in named:
        if place is None:
            continue
        try:
            found[entry] = (folder / place).read_bytes()
            found[entry].decode("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise RecipeError(
                f"bundle.{key}: {folder / place} can't be read ({exc}); give a text file in UTF-8"
            ) from exc
    return found


def _labels(recipe: Recipe, folder: Path) -> tuple[str, ...] | None:
    labels = recipe.bundle.labels
    if not isinstance(labels, str):
        return labels
    file = folder / labels
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise RecipeError(
            f"bundle.labels: {file} can't be read ({exc}); give a text file with one label per line, or a list"
        ) from exc
    return tuple(line.strip() for line in lines if line.strip())
