"""The bundle that an update starts from: its grid as `reports/grid.json` states it, and what was done to its channels.

A grid of thousands of scales stands in the model file already, so the report only says where: `offset` is the place of `count` little-endian float32
values in the file of that name beside the model. What a file doesn't hold in that form is written out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, JsonValue, ValidationError

from edgepack.bundle.archive import Bundle, read_bundle
from edgepack.bundle.manifest import Variant
from edgepack.bundle.parts import Many, Part
from edgepack.core.digest import canonical_json, sha256_file
from edgepack.core.errors import BundleError, RecipeError
from edgepack.core.nibbles import unpacked
from edgepack.core.types import Array, Grid, QuantParams

GRID_NAME = "reports/grid.json"


class CodesEntry(Part):
    """Where a weight's codes stand in a file of the model: its bytes are those of the transposed weight, with 128 added where `unsigned`.

    With 4 `bits`, a byte holds two codes, the low half first.
    """

    file: str
    offset: int = Field(ge=0)
    order: Many[Annotated[int, Field(ge=0)]]
    unsigned: bool = False
    bits: Literal[8, 4] = 8


class GridEntry(Part):
    """The grid of one tensor. Its scales are written out, or stand in a file of the model."""

    shape: Many[Annotated[int, Field(ge=0)]] | None = None
    axis: int | None = Field(default=None, ge=0)
    scale: Many[Annotated[float, Field(gt=0)]] | None = None
    file: str | None = None
    offset: int = Field(default=0, ge=0)
    count: int = Field(default=1, gt=0)
    zero_point: Many[int] | None = None
    dtype: Literal["int8", "int4"] = "int8"
    codes: CodesEntry | None = None


class GridReport(Part):
    """What `reports/grid.json` holds."""

    schema_version: Literal[1] = 1
    targets: Many[str]
    constraints: dict[str, JsonValue]
    activations: dict[str, GridEntry]
    weights: dict[str, GridEntry]
    edits: Many[dict[str, JsonValue]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """One target's model of an older bundle.

    `targets` shared its grid when it was built, under the `constraints` given; `edits` is what was done to its channels, as `Model.edits` has it.
    `codes` are its weights, int8 with torch's dimension order and batch norm's signs, where the files hold them plainly. A weight keeps its code while it
    lies within half a step and `tolerance` of it.
    """

    path: Path
    sha256: str
    name: str
    version: str
    target: str
    targets: tuple[str, ...]
    constraints: Mapping[str, Any]
    grid: Grid
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    edits: tuple[Mapping[str, Any], ...] = ()
    codes: Mapping[str, Array] = field(default_factory=dict)
    tolerance: float = 0.0

    @property
    def identity(self) -> dict[str, str]:
        """What a lineage says of it."""
        return {"sha256": self.sha256, "name": self.name, "version": self.version, "target": self.target}


def grid_report(
    grid: Grid,
    *,
    targets: Sequence[str],
    constraints: Mapping[str, Any],
    edits: Sequence[Mapping[str, Any]],
    codes: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, bytes],
) -> bytes:
    """What `reports/grid.json` holds; `files` are the model's files by name, and `codes` says where weights stand in them."""
    report = GridReport.model_validate(
        {
            "targets": list(targets),
            "constraints": dict(constraints),
            "activations": {name: _entry(params, {}) for name, params in grid.activations.items()},
            "weights": {
                name: {
                    "shape": grid.shapes[name],
                    **_entry(params, files),
                    **({"codes": dict(codes[name])} if name in codes else {}),
                }
                for name, params in grid.weights.items()
            },
            "edits": [dict(edit) for edit in edits],
        }
    )
    return (canonical_json({"schema_version": 1, **report.model_dump(mode="json", exclude_unset=True)}) + "\n").encode()


def read_base(path: Path, *, target: str) -> Base:
    """The base of a build for `target`: that target's model in the bundle, else one that shared its grid, else the first with a grid.

    Raises RecipeError for a file that is missing, is no bundle, is damaged, or holds no grid.
    """
    try:
        return _read(path, target)
    except (BundleError, ValidationError) as exc:
        what = exc if isinstance(exc, BundleError) else f"{path}: {GRID_NAME} can't be read by this edgepack: {exc}"
        raise RecipeError(f"update_of: {what}") from exc


def _read(path: Path, target: str) -> Base:
    bundle = read_bundle(path)
    variants = {one.target: one for one in bundle.manifest.variants}
    known = {name: report for name in variants if (report := _report(bundle, name)) is not None}
    if not known:
        raise BundleError(
            f"{path}: has no {GRID_NAME}: its model isn't quantized, or an older edgepack built it; "
            "build that bundle again with this edgepack, from a recipe that quantizes"
        )
    sharing = (name for name, report in known.items() if target in report.targets)
    name = target if target in known else next(sharing, next(iter(known)))
    report, files = known[name], _ModelFiles(bundle, variants[name])
    return Base(
        path=path,
        sha256=sha256_file(path),
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        target=name,
        targets=report.targets,
        constraints=report.constraints,
        grid=Grid(
            activations={key: _params(entry, files) for key, entry in report.activations.items()},
            weights={key: _params(entry, files) for key, entry in report.weights.items()},
            shapes={key: entry.shape or () for key, entry in report.weights.items()},
        ),
        inputs=tuple((item.name, item.shape) for item in variants[name].inputs),
        edits=report.edits,
        codes={
            key: files.codes(entry.codes, entry.shape or ())
            for key, entry in report.weights.items()
            if entry.codes is not None
        },
    )


class _ModelFiles:
    """The files of a variant's model by their names in its folder, read when asked for."""

    def __init__(self, bundle: Bundle, variant: Variant) -> None:
        paths = [variant.model.path, *(one.path for one in variant.model.companions)]
        self.bundle, self.paths = bundle, {PurePosixPath(path).name: path for path in paths}
        self.content: dict[str, bytes] = {}

    def floats(self, entry: GridEntry) -> tuple[float, ...]:
        values = np.frombuffer(self._bytes(entry.file or "", entry.offset, 4 * entry.count), "<f4")
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise BundleError(f"{self.bundle.path}: {GRID_NAME} points at something in '{entry.file}' that is no scale")
        return tuple(values.tolist())

    def codes(self, entry: CodesEntry, shape: tuple[int, ...]) -> Array:
        if sorted(entry.order) != list(range(len(shape))):
            raise BundleError(
                f"{self.bundle.path}: {GRID_NAME} gives an order of {len(entry.order)} axes to {len(shape)}"
            )
        count = math.prod(shape)
        values = np.frombuffer(self._bytes(entry.file, entry.offset, -(-count * entry.bits // 8)), np.uint8)
        signed = (
            unpacked(values, count) if entry.bits == 4 else (values ^ 0x80 if entry.unsigned else values).view(np.int8)
        )
        stored = signed.reshape([shape[axis] for axis in entry.order])
        return np.ascontiguousarray(stored.transpose(np.argsort(entry.order)))

    def _bytes(self, file: str, offset: int, size: int) -> bytes:
        if file not in self.paths:
            raise BundleError(f"{self.bundle.path}: {GRID_NAME} names the file '{file}', which the model hasn't")
        if file not in self.content:
            self.content[file] = self.bundle.read(self.paths[file])
        if offset + size > len(self.content[file]):
            raise BundleError(f"{self.bundle.path}: {GRID_NAME} points behind the end of '{file}'")
        return self.content[file][offset : offset + size]


def _report(bundle: Bundle, target: str) -> GridReport | None:
    """The report of one target; models of several targets in one bundle have a folder each, and share files that are the same."""
    name = next((name for name in (f"{target}/{GRID_NAME}", GRID_NAME) if name in bundle.names), None)
    return None if name is None else GridReport.model_validate_json(bundle.read(name))


def _entry(params: QuantParams, files: Mapping[str, bytes]) -> dict[str, Any]:
    """A grid as JSON: numbers as float32 spells them, or the place where they stand in a file."""
    scale = np.array(params.scale, "<f4")
    entry: dict[str, Any] = {} if params.axis is None else {"axis": params.axis}
    places = ((name, content.find(scale.tobytes())) for name, content in files.items() if scale.size > 1)
    file, offset = next(((name, offset) for name, offset in places if offset >= 0), ("", -1))
    if file:
        entry |= {"file": file, "offset": offset, "count": int(scale.size)}
    else:
        entry |= {"scale": [float(str(value)) for value in scale]}
    narrow = {"dtype": params.dtype} if params.dtype == "int4" else {}
    return entry | narrow | ({"zero_point": list(params.zero_point)} if any(params.zero_point) else {})


def _params(entry: GridEntry, files: _ModelFiles) -> QuantParams:
    scale = files.floats(entry) if entry.scale is None else tuple(np.array(entry.scale, np.float32).tolist())
    return QuantParams(
        scale=scale, zero_point=entry.zero_point or (0,) * len(scale), dtype=entry.dtype, axis=entry.axis
    )
