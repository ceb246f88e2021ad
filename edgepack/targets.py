"""What a kind of device can do: `targets/<name>.toml`, where the file is the registration."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.core.section import Section, validate

_PACKAGE = Path(__file__).resolve().parent
SHIPPED = next(folder for folder in (_PACKAGE / "_shipped" / "targets", _PACKAGE.parent / "targets") if folder.is_dir())


class Limits(Section):
    """Hard limits of the device's runtime."""

    threads: int = Field(default=1, gt=0, description="Threads of verification and benchmark.")
    model_bytes_max: int | None = Field(default=None, gt=0, description="Largest model file that the runtime can open.")


class NumericConstraints(Section):
    """Which quantization grids the kernels can represent."""

    weights_bits: int = Field(default=8, ge=2, le=16, description="Bits of a weight.")
    weights_symmetric: bool = Field(default=True, description="Zero point of weights is 0.")
    weights_per_channel: bool = Field(default=True, description="One weight scale per output channel.")
    weights_narrow_range: bool = Field(default=True, description="Weights use -127…127, not -128.")
    activations_bits: int = Field(default=8, ge=4, le=16, description="Bits of an activation.")
    activations_symmetric: bool = Field(default=False, description="Zero point of activations is 0.")
    activations_per_channel: bool = Field(default=False, description="One activation scale per channel.")
    quantize_outputs: bool = Field(default=True, description="The model's outputs are quantized, too.")
    overflow_fix: bool = Field(default=False, description="Narrow the first layer's weights for CPUs without VNNI.")
    fused_activations: tuple[str, ...] = Field(
        default=("relu", "relu6", "hardtanh"),
        description="Activations that are computed with the operator before them, so that its own output needs no grid.",
    )
    same_grid_ops: tuple[str, ...] = Field(default=(), description="Operators whose output has the grid of the input.")
    one_grid_ops: tuple[str, ...] = Field(default=(), description="Operators whose inputs and output share one grid.")
    fixed_output_ranges: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="Operators whose output grid is built into the kernel."
    )


class WideActivations(Section):
    """Where kernels with 16-bit activations, int8 weights and 64-bit biases differ from those with 8 bits. Zero points are 0."""

    fixed_output_ranges: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="Operators whose output grid is built into these kernels."
    )


class TargetProfile(Section):
    """A kind of device."""

    description: str = Field(description="One line for `edgepack targets`.")
    exporter: str = Field(description="Name of the exporter.")
    runtime: str = Field(description="Name of the runtime that verifies the artifact here.")
    witnesses: tuple[str, ...] = Field(
        default=(),
        description="Further runtimes that run the same file for the parity table, where they are installed; they decide nothing.",
    )
    exporter_options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the exporter; see docs/targets.md."
    )
    runtime_options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the runtime; see docs/targets.md."
    )
    limits: Limits = Limits()
    quantization: NumericConstraints = NumericConstraints()
    wide_activations: WideActivations | None = Field(
        default=None, description="Kernels with 16-bit activations; without this table the target has none."
    )

    def numbers(self, *, activations_bits: int = 8) -> NumericConstraints:
        """Which grids the kernels for activations of so many bits can represent. Raises ValueError where there are no such kernels."""
        if activations_bits == 8:
            return self.quantization
        if self.wide_activations is None:
            raise ValueError(f"has no kernels with {activations_bits}-bit activations")
        return self.quantization.model_copy(
            update={
                "activations_bits": activations_bits,
                "activations_symmetric": True,
                "fixed_output_ranges": self.wide_activations.fixed_output_ranges,
            }
        )


def target_names(project: Path | None = None) -> dict[str, Path]:
    """Every target by name: the shipped ones, and a project's own `targets/` folder, which wins."""
    folders = [SHIPPED] + ([project / "targets"] if project is not None else [])
    return {file.stem: file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*.toml"))}


def load_target(name: str, project: Path | None = None) -> TargetProfile:
    """The profile of a target. Raises RecipeError for an unknown name or an invalid file."""
    files = target_names(project)
    if name not in files:
        raise RecipeError(f"unknown target '{name}'{did_you_mean(name, files)}")
    try:
        content = tomllib.loads(files[name].read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as exc:
        raise RecipeError(f"{files[name]}: not valid TOML: {exc}") from exc
    return validate(TargetProfile, content, where=f"targets/{files[name].name}")
