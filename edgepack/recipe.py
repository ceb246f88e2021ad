"""What the user writes: `edgepack.toml`, or `[tool.edgepack]` in pyproject.toml, validated strictly.

These models are the single source of the recipe's options: their defaults, their checks, the JSON Schema that
editors complete from (`edgepack schema`) and the reference page `docs/recipe.md` come from here.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from edgepack.core.errors import RecipeError
from edgepack.core.section import Section, validate
from edgepack.core.sizes import bytes_of

FILE_NAME = "edgepack.toml"
SizeBytes = Annotated[int, BeforeValidator(bytes_of, json_schema_input_type=int | str)]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


class InputSection(Section):
    """One input of the model."""

    name: str = Field(default="input", description="Name of the input; becomes its name in the bundle's signature.")
    shape: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        description="Shape of one sample without the batch dimension, e.g. `[3, 224, 224]`.", min_length=1
    )
    dtype: Literal["float32", "int32", "int64"] = Field(
        default="float32",
        description="Type of the values that the float model takes: `float32`, or `int32` or `int64` for indices such as token ids.",
    )
    layout: Literal["CHW", "HWC", "any"] = Field(
        default="any", description="What the dimensions mean: `CHW` or `HWC` for images, `any` for other tensors."
    )


class ModelSection(Section):
    """The trained model: a `factory` in your code with a state dict beside it, or a `file` that holds the whole model."""

    factory: str | None = Field(
        default=None,
        description="`module:function` that returns the float `torch.nn.Module`. Looked up beside the recipe first.",
    )
    file: str | None = Field(
        default=None,
        description="File or folder that holds graph and weights, relative to the recipe; `${VARIABLE}` and `~` are expanded. docs/sources.md says which kinds there are.",
    )
    kind: str | None = Field(
        default=None, description="Kind of source. Default: `torch_factory` for a factory, else by the file's suffix."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for the factory.")
    weights: str | None = Field(
        default=None,
        description="State dict to load: `.pt`/`.pth` (read with `weights_only=True`) or `.safetensors`; relative to the recipe, "
        "or `package:file` for a file inside an installed package; `${VARIABLE}` and `~` are expanded. Leave out if the factory loads its own weights.",
    )
    weights_key: str | None = Field(
        default=None, description="Key under which the state dict lies in a checkpoint dictionary, e.g. `state_dict`."
    )
    allow_code: bool = Field(
        default=False,
        description="Whether a model file's own code may run: Lambda layers of a `.keras` file, Python and file operations of a SavedModel. Say yes to files that "
        "you trust only.",
    )
    signature: str | None = Field(
        default=None,
        description="Which signature of a SavedModel to take. Default: `serving_default`, or the only one.",
    )
    inputs: tuple[InputSection, ...] = Field(
        default=(),
        description="Inputs in the order of `forward`. Required with `factory`; a file knows its inputs, and what stands here names them anew and "
        "gives dimensions that the file leaves open their size.",
    )

    @field_validator("factory")
    @classmethod
    def _factory_is_a_reference(cls, value: str | None) -> str | None:
        if value is not None and not _FACTORY.match(value):
            raise ValueError(f"must look like 'module:function', got '{value}'")
        return value

    @field_validator("inputs")
    @classmethod
    def _input_names_differ(cls, value: tuple[InputSection, ...]) -> tuple[InputSection, ...]:
        if len({spec.name for spec in value}) != len(value):
            raise ValueError("two inputs have the same name")
        return value

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> ModelSection:
        if (self.factory is None) == (self.file is None):
            raise ValueError(
                "give either 'factory' (a function of your code) or 'file' (a model file)"
                + ("" if self.file is None else ", not both")
            )
        if self.factory is not None and not self.inputs:
            raise ValueError("inputs: this key is required with 'factory' and missing; add a [[model.inputs]] table")
        alone = [key for key in ("args", "weights", "weights_key") if self.file is not None and getattr(self, key)]
        if alone:
            raise ValueError(f"{alone[0]}: belongs to 'factory'; a model file holds its own weights")
        return self


class DataSection(Section):
    """Where samples come from. Which other keys are allowed depends on the provider; see docs/data.md."""

    model_config = ConfigDict(extra="allow", frozen=True)

    provider: str = Field(description="Name of a sample provider: `npz`, `idx`, `image_folder`, `digits`, `python`.")
    count: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Use this many samples, drawn without replacement by `seed`. Default: all."
    )
    seed: int = Field(default=0, description="Seed of that draw.")
    sha256: str | None = Field(
        default=None,
        description="Expected checksum of the provider's files, as `edgepack plan` prints it; a build with other data stops.",
    )

    def options(self) -> dict[str, Any]:
        """The provider's own keys."""
        return dict(self.model_extra or {})


class DataSections(Section):
    """The three roles of data. Each is a table, or the name of a file in `calibration/`."""

    train: DataSection | str | None = Field(
        default=None,
        description="Samples for training steps (pruning, QAT). Labels are not needed: the float model teaches.",
    )
    calibration: DataSection | str | None = Field(
        default=None, description="Samples from which ranges are measured. Default: the first 300 of `train`."
    )
    evaluation: DataSection | str = Field(
        description="Labelled samples that judge the result. Never used for training."
    )


class PreprocessStep(Section):
    """One preprocessing step; `op` names it and the other keys are its options. See docs/data.md."""

    model_config = ConfigDict(extra="allow", frozen=True)

    op: str = Field(description="`grayscale`, `center_crop`, `resize`, `to_float`, `normalize` or `layout`.")

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class MetricSection(Section):
    """How a result is judged."""

    name: Literal["top1", "top5"] = Field(
        default="top1",
        description="Share of samples whose label is the largest (`top1`) or among the five largest (`top5`) outputs.",
    )
    output: str | None = Field(default=None, description="The output that is judged. Default: the first.")


class CompressStep(Section):
    """One compression step; `method` names it and the other keys are its options. See docs/methods.md."""

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str = Field(
        description="`prune_channels`, `prune_entropy`, `prune_magnitude`, `sort_channels` or `quantize`."
    )

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class BudgetSection(Section):
    """Limits that the finished bundle must keep; a limit left out is not checked."""

    drop_points: float | None = Field(
        default=1.0, ge=0, description="Largest loss of the metric against the original model, in percentage points."
    )
    size_bytes: int | None = Field(default=None, gt=0, description="Largest size of the model file.")
    latency_p50_ms: float | None = Field(
        default=None,
        gt=0,
        description="Largest median latency of one inference on the machine that builds, in milliseconds.",
    )
    peak_memory_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Largest peak resident memory of a process that loads and runs the model on the machine that builds.",
    )


class FidelitySection(Section):
    """How far the exported model may be from the compressed one, on the same samples."""

    top1_agreement_min: float = Field(
        default=0.995, ge=0, le=1, description="Smallest share of samples on which both predict the same class."
    )
    mean_steps_max: float = Field(
        default=0.75, gt=0, description="Largest mean difference of the outputs, in output quantization steps."
    )
    max_steps_max: float = Field(
        default=10.0, gt=0, description="Largest single difference of the outputs, in output quantization steps."
    )


class ParitySection(Section):
    """How far the runtimes of one build may be from each other, on the same samples; judged when several targets share a grid."""

    top1_agreement_min: float = Field(
        default=0.993, ge=0, le=1, description="Smallest share of samples on which two runtimes predict the same class."
    )
    metric_difference_points_max: float = Field(
        default=0.3, ge=0, description="Largest difference of the metric between two runtimes, in percentage points."
    )
    mean_steps_max: float = Field(
        default=0.75,
        gt=0,
        description="Largest mean difference of the outputs of two runtimes, in output quantization steps.",
    )


class ExportSection(Section):
    """How the artifact meets the app."""

    io_dtype: Literal["int8", "float32"] = Field(
        default="int8",
        description="Type at the artifact's border: `int8` (the app quantizes) or `float32` (a QUANTIZE and a DEQUANTIZE inside).",
    )
    io_layout: Literal["model", "NHWC"] = Field(
        default="model",
        description="Layout of image inputs at the border: the model's own, or `NHWC`, which Arm runtimes and cameras prefer.",
    )
    float_dtype: Literal["float32", "float16"] = Field(
        default="float32",
        description="Type of weights and arithmetic of a model that is not quantized: `float16` halves the file, on targets that compute in it.",
    )
    dynamic_batch: bool = Field(
        default=False,
        description="Whether the model takes any number of samples at once, on targets that can (not Arm).",
    )


class PostprocessStep(Section):
    """One postprocessing step; `op` names it and the other keys are its options. See docs/bundle-format.md."""

    model_config = ConfigDict(extra="allow", frozen=True)

    op: str = Field(description="`dequantize`, `softmax`, `sigmoid` or `top_k`.")

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class BundleSection(Section):
    """What the bundle says about itself."""

    name: str = Field(description="Name of the bundle, e.g. `digits`.")
    version: str = Field(default="0.1.0", description="Version of the bundle.")
    description: str = Field(default="", description="One sentence for the person who receives it.")
    author: str = Field(default="", description="Who made it.")
    license: str = Field(default="", description="SPDX identifier of the model's licence.")
    license_file: str | None = Field(
        default=None, description="Text file with the model's licence, relative to the recipe; becomes LICENSE."
    )
    labels: tuple[str, ...] | str | None = Field(
        default=None, description="Class names in output order: a list, or a text file with one per line."
    )
    vocabulary: str | None = Field(
        default=None,
        description="Text file with one token per line, for a model whose input is token ids, relative to the recipe; becomes vocabulary.txt.",
    )
    postprocess: tuple[PostprocessStep, ...] | None = Field(
        default=None,
        description="Steps from the first output to an answer. Default: `dequantize`, and with labels `top_k` with `k = 5`, after a `softmax` where "
        "the outputs are no shares that add up to 1.",
    )

    @field_validator("name", "version")
    @classmethod
    def _is_a_file_name(cls, value: str) -> str:
        if not _NAME.match(value):
            raise ValueError(f"use letters, digits, '.', '_' and '-' only, got '{value}'")
        return value


class TuneSection(Section):
    """What `edgepack tune` searches for, and with what; a build doesn't read it. See docs/tune.md."""

    max_size: SizeBytes | None = Field(
        default=None, gt=0, description='Largest size of the model, in bytes or with a unit: `"60 kB"`.'
    )
    size_of: Literal["wire", "file"] = Field(
        default="wire",
        description="What `max_size` limits: `wire`, the model file as `edgepack pack` packs it for the download, or the `file` itself.",
    )
    max_drop_points: float | None = Field(
        default=None, ge=0, le=100, description="Largest loss of the metric against the original, in percentage points."
    )
    max_latency_p50_ms: float | None = Field(
        default=None, gt=0, description="Largest median latency of one inference on the device that measures."
    )
    max_memory: SizeBytes | None = Field(
        default=None, gt=0, description="Largest peak resident memory of a process that runs the model there."
    )
    methods: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Methods to combine. Default: all that docs/tune.md lists."
    )
    layers: tuple[str, ...] = Field(
        default=(),
        description="Layers, by module name, that each pruning method may leave alone or not: the search tries both. Few are best, each doubles the space.",
    )
    selection: DataSection | str | None = Field(
        default=None,
        description="Labelled samples that trials are judged on, never those of `data.evaluation`. Default: a part of `data.train`, kept out of the trials' training.",
    )
    held_out: float = Field(
        default=0.2, gt=0, lt=0.9, description="How large that part is, as a share of the training samples."
    )
    sampler: Literal["tpe", "nsga2"] = Field(
        default="tpe",
        description="How the next trial is chosen: `tpe`, by a model of the past ones (Bergstra et al. 2011), or `nsga2`, by evolution (Deb et al. 2002), which takes hundreds of trials.",
    )


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
