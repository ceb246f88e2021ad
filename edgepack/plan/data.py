"""The samples of a build: each role resolved to its table and what its samples are determined by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.core.errors import RecipeError
from edgepack.data.fingerprint import DigestCache, fingerprint
from edgepack.data.samples import plain_steps
from edgepack.data.sections import named, resolve_section
from edgepack.methods.protocol import Method
from edgepack.recipe import DataSection, Recipe

CALIBRATION_SAMPLES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """One role of data: its table, and what its samples are determined by."""

    role: str
    section: DataSection
    fingerprint: Mapping[str, Any]
    preprocess: tuple[dict[str, Any], ...] | None = None  # instead of the recipe's, where samples are trained on


def data_of(
    recipe: Recipe, folder: Path, digests: DigestCache, *, where: str, steps: tuple[tuple[str, Method], ...]
) -> tuple[Data | None, Data, Data]:
    """Training (where the recipe has it), calibration and evaluation. Raises RecipeError or DataError, with the section's name."""

    def resolve(role: str, section: DataSection | str) -> Data:
        table = resolve_section(section, folder=folder)
        if role != "train":
            refuse_preprocess(table, role)
        found = fingerprint(table, folder=folder, cache=digests, role=role)
        if table.preprocess is None:
            return Data(role=role, section=table, fingerprint=found)
        with named(role):
            own = tuple(plain_steps(table.preprocess))
        return Data(role=role, section=table, fingerprint={**found, "preprocess": list(own)}, preprocess=own)

    train = None if recipe.data.train is None else resolve("train", recipe.data.train)
    evaluation = resolve("evaluation", recipe.data.evaluation)
    if recipe.data.calibration is not None:
        calibration = resolve("calibration", recipe.data.calibration)
    elif train is not None:
        same = {name: value for name, value in train.fingerprint.items() if name != "preprocess"}
        calibration = Data(
            role="calibration", section=train.section, fingerprint={**same, "first": CALIBRATION_SAMPLES}
        )
    elif steps:
        raise RecipeError(
            f"{where}: data.calibration and data.train are both missing; ranges are measured on one of them"
        )
    else:
        calibration = evaluation
    return train, calibration, evaluation


def refuse_preprocess(section: DataSection, role: str) -> None:
    """Raises RecipeError for steps of a table's own where samples aren't trained on: these are judged, or measured, as an app will see them."""
    if section.preprocess is not None:
        place = role if "." in role else f"data.{role}"
        raise RecipeError(
            f"{place}: 'preprocess' is for data.train, whose samples a network learns from; these go through [[preprocess]] as an app's do, so leave it out"
        )
