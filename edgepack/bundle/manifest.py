"""What a bundle says about itself: `manifest.json`, read strictly.

No field holds a time, a host or a path of the machine that built it, so equal builds have equal manifests.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from edgepack.core.digest import canonical_json
from edgepack.core.errors import BundleError
from edgepack.core.types import Layout, QuantParams, Signature

SCHEMA_VERSION = "1.0"
_MAJOR = int(SCHEMA_VERSION.partition(".")[0])

T = TypeVar("T")
# Lists and tuples both, so that Python code and JSON are read alike; the elements stay strict.
Many = Annotated[tuple[T, ...], Field(strict=False)]
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
    precision: Literal["int8", "float32", "float16"] = Field(description="Type of the weights and of the arithmetic.")

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
    shape: Many[Annotated[int, Field(ge=0)]] = Field(description="The whole shape, batch dimension first.")
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


class FileEntry(Part):
    """A file of the bundle."""

    path: str = Field(description="Name of the entry.")
    sha256: Sha256 = Field(description="SHA-256 of the file.")
    size_bytes: int = Field(ge=0, description="Size of the file.")


class Manifest(Part):
    """The whole manifest."""

    schema_version: Annotated[str, Field(pattern=r"^[1-9][0-9]*\.[0-9]+$")] = Field(
        default=SCHEMA_VERSION, description="Version of this format. A reader refuses a higher major version."
    )
    name: FileName = Field(description="Name of the bundle, e.g. `digits`.")
    version: FileName = Field(description="Version of the bundle, e.g. `1.0.0`.")
    target: FileName = Field(description="Kind of device that it is built for, e.g. `arm64`.")
    description: str = Field(default="", description="One sentence for the person who receives it.")
    author: str = Field(default="", description="Who made it.")
    license: str = Field(default="", description="SPDX identifier of the model's licence.")
    created_with: dict[str, str] = Field(default_factory=dict, description="Tools and their versions.")
    labels: Many[str] | None = Field(default=None, description="Class names in output order, or null.")
    model: ModelEntry = Field(description="The model file.")
    inputs: Many[Tensor] = Field(min_length=1, description="Inputs, in the order of the model file.")
    outputs: Many[Tensor] = Field(min_length=1, description="Outputs, in the order of the model file.")
    preprocess: Many[dict[str, JsonValue]] = Field(default=(), description="Steps from a raw sample to the input.")
    metric: Metric | None = Field(default=None, description="Quality on the evaluation samples.")
    checks: Many[CheckEntry] = Field(default=(), description="Every check of the build.")
    checks_passed: bool = Field(description="Whether all checks passed.")
    golden: Golden | None = Field(default=None, description="Samples with known answers.")
    lineage: dict[str, JsonValue] = Field(
        default_factory=dict, description="Where the model comes from: digests and seed."
    )
    files: Many[FileEntry] = Field(default=(), description="Every other entry of the archive, sorted by path.")
    extensions: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Room to grow: keys that a reader doesn't know are ignored here, and only here.",
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Manifest:
        for kind, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            if len({tensor.name for tensor in tensors}) != len(tensors):
                raise ValueError(f"two {kind} have the same name")
        if self.checks_passed != all(check.passed for check in self.checks):
            raise ValueError(f"checks_passed is {self.checks_passed}, but the checks say otherwise")
        if self.golden is not None:
            expected = (len(self.inputs), len(self.outputs))
            if (len(self.golden.inputs), len(self.golden.outputs)) != expected:
                raise ValueError("golden: one file per input and one per output are needed")
            if self.golden.output_steps is not None and len(self.golden.output_steps) != len(self.outputs):
                raise ValueError("golden: output_steps needs one number per output")
        return self

    @property
    def file_name(self) -> str:
        """What the bundle's file is called, e.g. `digits-1.0.0-arm64.edgepack`."""
        return f"{self.name}-{self.version}-{self.target}.edgepack"

    def to_bytes(self) -> bytes:
        """UTF-8 JSON with sorted keys, two spaces of indent and a newline at the end; equal manifests give equal bytes.

        Raises BundleError for a value that JSON can't hold, such as NaN in `lineage`.
        """
        content = self.model_dump(mode="json")
        try:
            text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
            return f"{text}\n".encode()
        except ValueError as exc:
            raise BundleError(f"manifest.json: a value can't be written as JSON: {exc}") from exc


def parse_manifest(data: bytes) -> Manifest:
    """A manifest from its bytes. Raises BundleError: not JSON, a higher major version, or fields that are wrong or missing."""
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
        text = canonical_json(content)  # refuses what no JSON can hold, such as 1e999
        text.encode()
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"manifest.json: not valid JSON: {exc}") from exc
    if isinstance(content, dict):
        _refuse_higher_major(content.get("schema_version"))
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as exc:
        raise BundleError("\n".join(f"manifest.json: {line}" for line in _explain(exc))) from None


def manifest_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `manifest.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}


def _refuse_higher_major(version: object) -> None:
    major = version.partition(".")[0] if isinstance(version, str) else ""
    if not (major.isascii() and major.isdecimal()):
        return  # validation says what is wrong with it
    if len(major) > 6 or int(major) > _MAJOR:
        raise BundleError(
            f"manifest.json: schema_version {major[:6]} is newer than {SCHEMA_VERSION}, which this edgepack reads; "
            "update it: pip install --upgrade edgepack"
        )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two parsers may keep different ones of two equal keys; then the digests that one checks are not what the other reads.
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError(f"a key occurs twice among {', '.join(sorted(content))}")
    return content


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON value")


def _explain(exc: ValidationError) -> list[str]:
    return [
        f"{'.'.join(map(str, error['loc'])) or 'top level'}: {error['msg'].removeprefix('Value error, ')}"
        for error in exc.errors()
    ]
