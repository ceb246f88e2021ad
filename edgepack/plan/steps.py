"""The compression steps of a plan: read, put to the test of their order, and refused where model, data or target can't bear them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepack.core.errors import EnvironmentProblem, RecipeError, UnsupportedError
from edgepack.core.section import validate
from edgepack.data.sections import open_provider
from edgepack.methods import METHODS
from edgepack.methods.protocol import Method, Phase, networks_of, student_of, trainings_of
from edgepack.plan.data import Data
from edgepack.recipe import InputSection, Recipe
from edgepack.runtimes import Runtime
from edgepack.sources.networks import check_network, open_network
from edgepack.sources.protocol import Source
from edgepack.targets import TargetProfile


def steps_of(recipe: Recipe, where: str) -> tuple[tuple[str, Method], ...]:
    """Each step's method with its options. Raises RecipeError, with the step's place, for an unknown method, a bad option or an order that undoes a step."""
    steps: list[tuple[str, Method]] = []
    for index, step in enumerate(recipe.compress):
        place = f"{where}: compress.{index}"
        try:
            kind: Any = METHODS.load(step.method)
        except RecipeError as exc:
            raise RecipeError(f"{place}: {exc}") from exc
        method: Method = validate(kind, step.options(), where=f"{place} ({step.method})")
        if method.needs_training_samples and recipe.data.train is None:
            raise RecipeError(
                f"{place}: {step.method} trains, and data.train is missing; add a [data.train] table (labels are not needed)"
            )
        before = next((name for name, earlier in steps if earlier.phase > method.phase), None)
        if before is not None:
            raise RecipeError(
                f"{place}: {step.method} comes after {before}, and would undo a part of it; put {step.method} before {before}"
            )
        other = next((name for name, earlier in steps if earlier.phase is method.phase is Phase.GRID), None)
        if other is not None:
            raise RecipeError(f"{place}: {step.method} and {other} both round the weights; leave one of them out")
        if method.phase is Phase.ORDER:
            _refuse_moving(place, step.method, steps)
        if student_of(method) is not None and any(student_of(earlier) is not None for _, earlier in steps):
            raise RecipeError(f"{place}: a second student would take the place of the first; keep one of them")
        steps.append((step.method, method))
    return tuple(steps)


def _refuse_moving(place: str, name: str, earlier: list[tuple[str, Method]]) -> None:
    """Raises RecipeError where a step moves channels whose order an earlier one has made matter."""
    for other, method in earlier:
        if because := getattr(method, "order_matters", ""):
            raise RecipeError(f"{place}: {name} can't come after {other}: {because}; leave one of them out")


def check_networks(
    steps: tuple[tuple[str, Method], ...], folder: Path, inputs: tuple[InputSection, ...], *, where: str, seed: int
) -> None:
    """Raises SourceError for a student or a teacher whose module, function, weights or arguments aren't there."""
    for index, (name, method) in enumerate(steps):
        for inner, section in networks_of(method).items():
            place = f"{where}: compress.{index} ({name})" + (f": {inner}" if inner else "")
            source = open_network(section, folder, inputs=inputs, seed=seed)
            check_network(section, source, where=place)


def refuse_unlabelled(steps: tuple[tuple[str, Method], ...], train: Data | None, folder: Path, *, where: str) -> None:
    """Raises RecipeError for a training on labels of samples that are known to have none."""
    if train is None or getattr(open_provider(train.section, folder=folder), "labelled", True):
        return
    for index, (name, method) in enumerate(steps):
        for inner, training in trainings_of(method).items():
            if training.needs_labels:
                raise RecipeError(
                    f"{where}: compress.{index} ({name}): {inner} learns from labels, and data.train has none; name them there "
                    f"(for npz: 'y'), or take loss = \"distill\" without 'labels_weight'"
                )


def refuse_elsewhere(steps: tuple[tuple[str, Method], ...], target: str, runtime: Runtime, where: str) -> None:
    """Raises EnvironmentProblem where a step measures latency on a target whose hardware isn't here."""
    for index, (name, method) in enumerate(steps):
        if getattr(method, "needs_latency", False) and (absent := runtime.absent()):
            raise EnvironmentProblem(
                f"{where}: compress.{index} ({name}): latency is measured on this machine, and target '{target}' needs {absent}; "
                "build where that is, name a target first whose hardware is here, or let the step count multiply-accumulates"
            )


def refuse_exporters(profiles: Mapping[str, TargetProfile], steps: tuple[tuple[str, Method], ...], where: str) -> None:
    """Raises UnsupportedError for the first step whose result a target's exporter can't write."""
    for index, (name, method) in enumerate(steps):
        able: tuple[str, ...] | None = getattr(method, "exporters", None)
        for target, profile in profiles.items():
            if able is not None and profile.exporter not in able:
                raise UnsupportedError(
                    f"{where}: compress.{index} ({name}): target '{target}' writes {profile.exporter} files, and such a model can only be written "
                    f"as {' or '.join(able)}; choose another target (intel, x86_64), or quantize"
                )


def refuse_steps(source: Source, steps: tuple[tuple[str, Method], ...], where: str) -> None:
    """Raises UnsupportedError for the first step that models of this source can't take."""
    able = source.abilities
    for index, (name, method) in enumerate(steps):
        if not able.quantizes or (method.needs_training_samples and not able.trains):
            what = "can't be compressed" if not able.quantizes else "can't be trained"
            raise UnsupportedError(f"{where}: compress.{index} ({name}): this model {what}: {able.reason}")
