"""What the user writes: `edgepack.toml`, or `[tool.edgepack]` in pyproject.toml, validated strictly.

These models are the single source of the recipe's options: their defaults, their checks, the JSON Schema that
editors complete from (`edgepack schema`) and the reference page `docs/recipe.md` come from here.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from edgepack.core.errors import RecipeError
from edgepack.core.section import Section, validate
from edgepack.recipe.bundle import BundleSection, ExportSection, PostprocessStep
from edgepack.recipe.data import DataSection, DataSections, PreprocessStep
from edgepack.recipe.judging import BudgetSection, FidelitySection, MetricSection, ParitySection
from edgepack.recipe.model import InputSection, ModelSection, NetworkSection
from edgepack.recipe.tune import TuneSection

__all__ = [
    "FILE_NAME",
    "BudgetSection",
    "BundleSection",
    "CompressStep",
    "DataSection",
    "DataSections",
    "ExportSection",
    "FidelitySection",
    "InputSection",
    "MetricSection",
    "ModelSection",
    "NetworkSection",
    "ParitySection",
    "PostprocessStep",
    "PreprocessStep",
    "Recipe",
    "TuneSection",
    "find_recipe",
    "load_recipe",
]
FILE_NAME = "edgepack.toml"


class CompressStep(Section):
    """One compression step; `method` names it and the other keys are its options. See docs/methods.md."""

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str = Field(description="Name of a compression method: those below, and those of packages of your own.")

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Recipe(Section):
    """The whole recipe."""

    bundle: BundleSection
    model: ModelSection
    data: DataSections
    preprocess: tuple[PreprocessStep, ...] = Field(
        default=(), description="Steps from a raw sample to the model's input, in order."
    )
    metric: MetricSection = MetricSection()
    compress: tuple[CompressStep, ...] = Field(
        default=(), description="Compression steps, in order. None: the float model is exported."
    )
    budget: BudgetSection = BudgetSection()
    fidelity: FidelitySection = FidelitySection()
    parity: ParitySection = ParitySection()
    export: ExportSection = ExportSection()
    tune: TuneSection = TuneSection()
    targets: tuple[str, ...] = Field(
        default=("arm64",),
        min_length=1,
        description="Targets that `edgepack build` builds for when no `--target` is given.",
    )
    update_of: str | None = Field(
        default=None,
        description="A bundle of an older model of the same architecture, relative to the recipe; `${VARIABLE}` and `~` are expanded. Its scales and zero "
        "points are kept instead of fitting new ones, so that few weights change their codes and `edgepack delta` stays small.",
    )
    update_tolerance: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="With `update_of`: a weight keeps its old code while it lies within half a step and this part of a step of it, which makes updates smaller and "
        "takes back small changes. 0: every weight takes the nearest code.",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="Seed of every random choice; the same seed gives the same bytes."
    )
    threads: int | None = Field(
        default=None,
        gt=0,
        description="CPU threads of training and conversion. Default: the cores this process may use.",
    )

    @model_validator(mode="after")
    def _quantize_comes_last(self) -> Recipe:
        names = [step.method for step in self.compress]
        if "quantize" in names[:-1]:
            raise ValueError("compress: 'quantize' must be the last step: what follows would leave its grid")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a TOML file, or from a folder that holds edgepack.toml or a pyproject.toml with [tool.edgepack].

    Raises RecipeError with one line per mistake: file, key, what is wrong and the nearest known name.
    """
    file = find_recipe(path)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise RecipeError(f"{file}: not valid TOML: {exc}") from exc
    if file.name == "pyproject.toml":
        content = content["tool"]["edgepack"]
    return validate(Recipe, content, where=str(file))


def find_recipe(path: Path) -> Path:
    """The recipe's file. Raises RecipeError when there is none."""
    if path.is_file():
        return path
    if (path / FILE_NAME).is_file():
        return path / FILE_NAME
    pyproject = path / "pyproject.toml"
    if pyproject.is_file():
        try:
            if "edgepack" in tomllib.loads(pyproject.read_text(encoding="utf-8")).get("tool", {}):
                return pyproject
        except tomllib.TOMLDecodeError as exc:
            raise RecipeError(f"{pyproject}: not valid TOML: {exc}") from exc
    raise RecipeError(f"{path}: no recipe here; 'edgepack init' writes an {FILE_NAME}, or name one with --recipe FILE")
