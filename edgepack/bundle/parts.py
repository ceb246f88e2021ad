"""The parts of a manifest: files, tensors, checks and golden samples, each read strictly."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from edgepack.bundle.precision import Precision, spoken
from edgepack.core.types import Layout, QuantParams, Signature

LENGTH_MAX = 2**31 - 1  # of one dimension, so that every reader's int holds it

T = TypeVar("T")
# Lists and tuples both, so that Python code and JSON are read alike; the elements stay strict. The first wrong element ends the reading:
# a million wrong ones would be a million messages.
Many = Annotated[tuple[T, ...], Field(strict=False, fail_fast=True)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Dtype = Literal["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16", "float32", "float64", "bool"]


class Part(BaseModel):
    """A part of the manifest: unknown keys, loose types and NaN are errors, and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class Companion(Part):
    """A file that the runtime opens beside the model file, by its name in the same folder."""

    path: str = Field(description="Name of the entry, e.g. `model/model.bin`.")
    sha256: Sha256 = Field(description="SHA-256 of the file, 64 lower-case hex digits.")
    size_bytes: int = Field(ge=0, description="Size of the file.")


class ModelEntry(Part):
    """The model file."""

    path: str = Field(description="Name of the entry, e.g. `model/model.tflite`.")
    format: str = Field(min_length=1, description="File format: `tflite`, `onnx` or `openvino`.")
    runtime: str = Field(default="", description="The runtime that it was verified in, e.g. `onnxruntime`.")
    runtime_options: dict[str, JsonValue] = Field(default_factory=dict, description="That runtime's options.")
    sha256: Sha256 = Field(description="SHA-256 of the file, 64 lower-case hex digits.")
    size_bytes: int = Field(ge=0, description="Size of the file.")
    companions: Many[Companion] = Field(default=(), description="Files that the runtime opens beside it.")
    precision: Precision = Field(
        description="Type of the weights as the file holds them, and of the activations: int8 after `int8`, `int4` and `int4+int8` (some weights of each), int16 "
        "after `…x16`; after `…-weights` all but the weights is float."
    )

    @property
    def files(self) -> tuple[ModelEntry | Companion, ...]:
        """The model file and its companions."""
        return (self, *self.companions)

    @property
    def precision_spoken(self) -> str:
        """The precision in words: `int4 weights, int8 activations`."""
        return spoken(self.precision)

    @property
    def total_bytes(self) -> int:
        """Size of all files that the runtime opens."""
        return self.size_bytes + sum(companion.size_bytes for companion in self.companions)


class Grid(Part):
    """The quantization grid of a tensor: real = scale × (code − zero_point)."""

    scale: Many[Annotated[float, Field(gt=0)]] = Field(
        min_length=1, description="One float32 value for the whole tensor, or one per slice along `axis`."
    )
    zero_point: Many[int] = Field(min_length=1, description="As many as `scale`.")
    axis: int | None = Field(default=None, ge=0, description="The axis of the slices; null for one grid.")

    @model_validator(mode="after")
    def _lengths_agree(self) -> Grid:
        if len(self.scale) != len(self.zero_point):
            raise ValueError(f"{len(self.scale)} scales but {len(self.zero_point)} zero points")
        if self.axis is None and len(self.scale) != 1:
            raise ValueError(f"{len(self.scale)} scales need an axis")
        return self


class Tensor(Part):
    """One input or output of the model file."""

    name: str = Field(min_length=1, description="Its name; unique among the inputs, and among the outputs.")
    shape: Many[Annotated[int, Field(ge=0, le=LENGTH_MAX)]] = Field(
        max_length=16, description="The whole shape, batch dimension first."
    )
    dtype: Dtype = Field(description="Type of the elements, as NumPy spells it.")
    layout: Layout = Field(default="any", description="What the dimensions mean: `NCHW`, `NHWC` or `any`.")
    quantization: Grid | None = Field(default=None, description="The grid of the codes; null for real values.")

    @classmethod
    def of(cls, signature: Signature) -> Tensor:
        grid = signature.quantization
        return cls.model_validate(
            {
                "name": signature.name,
                "shape": signature.shape,
                "dtype": signature.dtype,
                "layout": signature.layout,
                "quantization": grid and Grid(scale=grid.scale, zero_point=grid.zero_point, axis=grid.axis),
            }
        )

    def as_signature(self) -> Signature:
        params = None
        if (grid := self.quantization) is not None:
            params = QuantParams(scale=grid.scale, zero_point=grid.zero_point, axis=grid.axis, dtype=self.dtype)
        return Signature(name=self.name, shape=self.shape, dtype=self.dtype, layout=self.layout, quantization=params)


class MetricValue(Part):
    """A metric of the evaluation samples."""

    name: str = Field(description="Name of the metric, e.g. `recall`.")
    value: float = Field(description="Of the model in this bundle.")
    float_value: float | None = Field(
        default=None, description="Of the original float model; null where it is not known."
    )


class Metric(Part):
    """How good the model is on the evaluation samples."""

    name: str = Field(description="Name of the metric, e.g. `top1`.")
    value: float = Field(description="Of the model in this bundle.")
    float_value: float | None = Field(
        default=None, description="Of the original float model, on the same samples; null where it is not known."
    )
    samples: int = Field(ge=0, description="Number of samples.")
    ci95: Annotated[tuple[float, float], Field(strict=False)] | None = Field(
        default=None, description="95 % confidence interval of `value` or of the loss, as the report says."
    )
    also: Many[MetricValue] = Field(default=(), description="Further metrics; left out where there are none.")

    @property
    def all(self) -> tuple[MetricValue, ...]:
        """The metric itself, then the further ones."""
        return (MetricValue(name=self.name, value=self.value, float_value=self.float_value), *self.also)

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """`also` is younger than the format: a manifest without it is as it always was."""
        content: dict[str, Any] = write(self)
        return content if self.also else {key: value for key, value in content.items() if key != "also"}


class CheckEntry(Part):
    """A value against a limit, as the build found it."""

    kind: Literal["fidelity", "accuracy", "budget", "parity"] = Field(description="Which question the check answers.")
    name: str = Field(description="What is checked, e.g. `top1_agreement`.")
    value: float = Field(description="What was found.")
    limit: float = Field(description="What is allowed.")
    direction: Literal["max", "min"] = Field(
        description="`max`: the value must not exceed the limit; `min`: not fall below."
    )
    samples: int | None = Field(default=None, description="Number of samples behind the value.")
    ci95: Annotated[tuple[float, float], Field(strict=False)] | None = Field(
        default=None, description="95 % confidence interval of the value; null where it is exact."
    )
    method: str = Field(default="", description="How the value was found.")
    passed: bool = Field(description="Whether the value keeps the limit.")

    @model_validator(mode="after")
    def _verdict_is_true(self) -> CheckEntry:
        kept = self.value <= self.limit if self.direction == "max" else self.value >= self.limit
        if kept != self.passed:
            raise ValueError(f"check '{self.name}' says passed = {self.passed}, but its value and limit say {kept}")
        return self


class Golden(Part):
    """Samples with known answers, so that an app can prove its own integration."""

    inputs: Many[str] = Field(min_length=1, description="Entry names of `.npy` arrays, one per input, in order.")
    outputs: Many[str] = Field(min_length=1, description="Entry names of `.npy` arrays, one per output, in order.")
    samples: int = Field(gt=0, description="First dimension of every array.")
    tolerance_steps: float = Field(ge=0, description="Largest allowed difference of an output, in steps of its grid.")
    output_steps: Many[Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="Size of one step of each output in real units; needed only for float outputs."
    )
    raw: str | None = Field(
        default=None,
        description="Entry name of a `.npy` array with the first samples before `preprocess`, so that an app can prove its preprocessing, too.",
    )
    raw_samples: int | None = Field(default=None, gt=0, description="First dimension of `raw`; at most `samples`.")

    @model_validator(mode="after")
    def _raw_is_counted(self) -> Golden:
        if (self.raw is None) != (self.raw_samples is None):
            raise ValueError("golden: raw and raw_samples come together or not at all")
        if self.raw_samples is not None and self.raw_samples > self.samples:
            raise ValueError(f"golden: raw_samples is {self.raw_samples}, but there are {self.samples} samples")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Every entry that it names."""
        return (*self.inputs, *self.outputs, *(() if self.raw is None else (self.raw,)))


class FileEntry(Part):
    """A file of the bundle."""

    path: str = Field(description="Name of the entry.")
    sha256: Sha256 = Field(description="SHA-256 of the file.")
    size_bytes: int = Field(ge=0, description="Size of the file.")
