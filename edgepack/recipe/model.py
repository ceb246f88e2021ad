"""The model of a recipe: `[model]` and its inputs."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from edgepack.core.section import Section

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


class NetworkSection(Section):
    """Another network of your code: a teacher, or a student. It takes the model's inputs and gives outputs of the same shapes."""

    factory: str = Field(
        description="`module:function` that returns the `torch.nn.Module`. Looked up beside the recipe first."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for the factory.")
    weights: str | None = Field(
        default=None,
        description="State dict to load, as `model.weights`. Leave out if the factory loads its own, or to start from fresh values.",
    )
    weights_key: str | None = Field(
        default=None, description="Key under which the state dict lies in a checkpoint dictionary, e.g. `state_dict`."
    )

    @field_validator("factory")
    @classmethod
    def _factory_is_a_reference(cls, value: str) -> str:
        return _reference(value)


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
        return None if value is None else _reference(value)

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


def _reference(value: str) -> str:
    if not _FACTORY.match(value):
        raise ValueError(f"must look like 'module:function', got '{value}'")
    return value
