"""What is bundled: `[export]`, `[bundle]` and its postprocessing."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from edgepack.core.section import Section

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


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
