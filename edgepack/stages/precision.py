"""What an exported model's weights and arithmetic are, read off its files and its grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgepack.bundle.precision import Activations, CodeType, Precision, precision_of
from edgepack.codec.segments import segments_of
from edgepack.methods.protocol import Phase
from edgepack.plan import BuildPlan
from edgepack.stages.export import ExportedModel

_CODES: dict[str, CodeType] = {"i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4"}


def export_precision(plan: BuildPlan, exported: ExportedModel) -> Precision:
    """The manifest's word for what was exported, or for a finished file that was taken over."""
    if plan.source.abilities.finished:
        return precision_of(code_types(_files(exported)), _activations_of_finished(exported))
    if not any(method.phase is Phase.GRID for _, method in plan.steps):
        return precision_of((), plan.recipe.export.float_dtype)
    return precision_of(code_types(_files(exported)), _activations(plan, exported))


def code_types(paths: Iterable[Path]) -> frozenset[CodeType]:
    """The types of the weights that are integers in a model's files: constants of two dimensions or more. Codes of four bits with a byte each are int8."""
    files = {path.name: path.read_bytes() for path in paths}
    segments = [one for name, content in files.items() for one in segments_of(content, name, files.get)]
    return frozenset(_CODES[one.kind] for one in segments if one.kind in _CODES and len(one.shape) > 1)


def _files(exported: ExportedModel) -> tuple[Path, ...]:
    return exported.artifact.path, *exported.artifact.companions


def _activations(plan: BuildPlan, exported: ExportedModel) -> Activations:
    if exported.grid is None or not exported.grid.activations:
        return plan.recipe.export.float_dtype
    return "int16" if any(params.dtype == "int16" for params in exported.grid.activations.values()) else "int8"


def _activations_of_finished(exported: ExportedModel) -> Activations:
    types = exported.execution.types
    if "i16" in types:
        return "int16"
    return "int8" if "i8" in types or "u8" in types else "float32"
