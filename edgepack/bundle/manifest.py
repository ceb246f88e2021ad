"""What a bundle says about itself: `manifest.json`, read strictly.

No field holds a time, a host or a path of the machine that built it, so equal builds have equal manifests.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, JsonValue, ValidationError, model_validator

from edgepack.bundle.layout import ENTRIES_MAX
from edgepack.bundle.parts import CheckEntry, FileEntry, FileName, Golden, Many, Metric, ModelEntry, Part, Tensor
from edgepack.core.digest import canonical_json
from edgepack.core.errors import BundleError
from edgepack.core.text import printable

__all__ = ["CheckEntry", "FileEntry", "Golden", "Manifest", "Metric", "ModelEntry", "Tensor", "Variant"]

SCHEMA_VERSION = "2.0"
MANIFEST_BYTES_MAX = 4 << 20  # bounds what a hostile one can make a reader allocate
VARIANTS_MAX = 256
DEPTH_MAX = 64  # objects and arrays inside each other
_EXPLAINED_MAX = 20
_MAJOR = int(SCHEMA_VERSION.partition(".")[0])


class Variant(Part):
    """The model for one kind of device, with its proof."""

    target: FileName = Field(description="Kind of device that it is built for, e.g. `arm64`; unique in the bundle.")
    model: ModelEntry = Field(description="The model file.")
    inputs: Many[Tensor] = Field(min_length=1, description="Inputs, in the order of the model file.")
    outputs: Many[Tensor] = Field(min_length=1, description="Outputs, in the order of the model file.")
    golden: Golden | None = Field(default=None, description="Samples with known answers.")
    metric: Metric | None = Field(default=None, description="Quality on the evaluation samples.")
    checks: Many[CheckEntry] = Field(default=(), description="Every check of the build.")
    checks_passed: bool = Field(description="Whether all checks passed.")
    lineage: dict[str, JsonValue] = Field(
        default_factory=dict, description="Where the model comes from: digests and seed."
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Variant:
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
    def files(self) -> tuple[str, ...]:
        """The entries that it names: the model's files and the golden samples."""
        return (*(file.path for file in self.model.files), *(self.golden.files if self.golden else ()))


class Manifest(Part):
    """The whole manifest."""

    schema_version: Annotated[str, Field(pattern=r"^[1-9][0-9]*\.[0-9]+$")] = Field(
        default=SCHEMA_VERSION, description="Version of this format. A reader refuses another major version."
    )
    name: FileName = Field(description="Name of the bundle, e.g. `digits`.")
    version: FileName = Field(description="Version of the bundle, e.g. `1.0.0`.")
    description: str = Field(default="", description="One sentence for the person who receives it.")
    author: str = Field(default="", description="Who made it.")
    license: str = Field(default="", description="SPDX identifier of the model's licence.")
    created_with: dict[str, str] = Field(default_factory=dict, description="Tools and their versions.")
    labels: Many[str] | None = Field(default=None, description="Class names in output order, or null.")
    preprocess: Many[dict[str, JsonValue]] = Field(default=(), description="Steps from a raw sample to the input.")
    postprocess: Many[dict[str, JsonValue]] = Field(default=(), description="Steps from the first output to an answer.")
    variants: Many[Variant] = Field(
        min_length=1,
        max_length=VARIANTS_MAX,
        description="The model for each target, sorted by target; what they share stands outside.",
    )
    files: Many[FileEntry] = Field(
        default=(),
        max_length=ENTRIES_MAX,
        description="Every entry of the archive but manifest.json and signatures.json, sorted by path.",
    )
    extensions: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Room to grow: keys that a reader doesn't know are ignored here, and only here.",
    )

    @model_validator(mode="after")
    def _targets_differ(self) -> Manifest:
        if list(self.targets) != sorted(set(self.targets)):
            raise ValueError(f"variants: their targets must differ and be sorted, got {', '.join(self.targets)}")
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The kinds of device that there is a model for."""
        return tuple(variant.target for variant in self.variants)

    @property
    def checks_passed(self) -> bool:
        """Whether all checks of all variants passed."""
        return all(variant.checks_passed for variant in self.variants)

    @property
    def title(self) -> str:
        """Name and version, and what it is for, e.g. `digits 1.0.0 for arm64 and intel`."""
        *others, last = self.targets
        return f"{self.name} {self.version} for {', '.join(others)}{' and ' if others else ''}{last}"

    @property
    def file_name(self) -> str:
        """What the bundle's file is called: `digits-1.0.0-arm64.edgepack`, or `digits-1.0.0.edgepack` for several targets."""
        target = f"-{self.targets[0]}" if len(self.targets) == 1 else ""
        return f"{self.name}-{self.version}{target}.edgepack"

    def to_bytes(self) -> bytes:
        """UTF-8 JSON with sorted keys, two spaces of indent and a newline at the end; equal manifests give equal bytes.

        Raises BundleError for a value that JSON can't hold, such as NaN in `lineage`, and for over 4 MiB.
        """
        content = self.model_dump(mode="json")
        try:
            text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
            data = f"{text}\n".encode()
        except ValueError as exc:
            raise BundleError(f"manifest.json: a value can't be written as JSON: {exc}") from exc
        _refuse_too_large(len(data))
        return data


def parse_manifest(data: bytes) -> Manifest:
    """A manifest from its bytes. Raises BundleError: too large, not JSON, another major version, or fields that are wrong or missing."""
    _refuse_too_large(len(data))
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
        _refuse_too_deep(content)
        text = canonical_json(content)  # refuses what no JSON can hold, such as 1e999
        text.encode()
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"manifest.json: not valid JSON: {printable(str(exc))[:400]}") from exc
    if isinstance(content, dict):
        _refuse_other_major(content.get("schema_version"))
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as exc:
        raise BundleError("\n".join(f"manifest.json: {line}" for line in _explain(exc))) from None


def manifest_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `manifest.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}


def _refuse_too_large(size_bytes: int) -> None:
    if size_bytes > MANIFEST_BYTES_MAX:
        raise BundleError(
            f"manifest.json: {size_bytes:,} bytes are more than the {MANIFEST_BYTES_MAX:,} that it may have"
        )


def _refuse_too_deep(content: object) -> None:
    level: list[object] = [content]
    for _ in range(DEPTH_MAX + 1):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    raise ValueError(f"objects and arrays lie more than {DEPTH_MAX} deep")


def _inside(value: object) -> list[object]:
    """The objects and arrays directly inside one."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in inner if isinstance(one, dict | list)]


def _refuse_other_major(version: object) -> None:
    major = version.partition(".")[0] if isinstance(version, str) else ""
    if not (major.isascii() and major.isdecimal()):
        return  # validation says what is wrong with it
    if len(major) > 6 or int(major) > _MAJOR:
        raise BundleError(
            f"manifest.json: schema_version {major[:6]} is newer than {SCHEMA_VERSION}, which this edgepack reads; "
            "update it: pip install --upgrade edgepack"
        )
    if int(major) < _MAJOR:
        raise BundleError(
            f"manifest.json: schema_version {str(version)[:20]} is of an earlier edgepack, and this one reads {SCHEMA_VERSION}; "
            "build the bundle again: edgepack build"
        )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two parsers may keep different ones of two equal keys; then the digests that one checks are not what the other reads.
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError(f"a key occurs twice among {', '.join(sorted(content))[:200]}")
    return content


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON value")


def _explain(exc: ValidationError) -> list[str]:
    errors = exc.errors(include_url=False, include_input=False, include_context=False)
    lines = [
        printable(
            f"{'.'.join(map(str, error['loc'])) or 'top level'}: {error['msg'].removeprefix('Value error, ')}"[:400]
        )
        for error in errors[:_EXPLAINED_MAX]
    ]
    return lines + ([f"and {len(errors) - _EXPLAINED_MAX} more"] if len(errors) > _EXPLAINED_MAX else [])
