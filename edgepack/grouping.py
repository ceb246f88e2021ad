"""Which targets can share one quantization grid, and so one training.

A grid that every target of a group can represent is trained once. What one target only may do (symmetric weights, an operator that keeps
the grid of its input) every other can do as well; what excludes each other (symmetric and asymmetric activations) divides the groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.core.errors import RecipeError
from edgepack.targets import NumericConstraints, TargetProfile, load_target, target_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Targets with one grid. `apart_because` says why they don't share that of the first group; '' for the first."""

    targets: tuple[str, ...]
    constraints: NumericConstraints
    apart_because: str = ""


def numbers_of(
    profiles: Mapping[str, TargetProfile], steps: Sequence[tuple[str, object]], folder: Path, *, where: str
) -> dict[str, NumericConstraints]:
    """What each target's kernels can represent in as many bits as the steps ask for. Raises RecipeError for a target without such kernels."""
    asked = ((index, name, getattr(method, "activations_bits", 8)) for index, (name, method) in enumerate(steps))
    index, step, bits = next((one for one in asked if one[2] != 8), (0, "", 8))
    found = {}
    for name, profile in profiles.items():
        try:
            found[name] = profile.numbers(activations_bits=bits)
        except ValueError as exc:
            able = [other for other in target_names(folder) if load_target(other, folder).wide_activations is not None]
            raise RecipeError(
                f"{where}: compress.{index} ({step}): target '{name}' {exc}; build for one that has them ({', '.join(able)}), "
                "or for this one with activations_bits = 8"
            ) from exc
    return found


def group_targets(targets: Mapping[str, NumericConstraints]) -> tuple[Group, ...]:
    """The targets in as few groups as their order gives: each joins the first group whose grid it can represent."""
    groups: list[Group] = []
    for name, constraints in targets.items():
        for index, group in enumerate(groups):
            if not _conflict(group.constraints, constraints):
                groups[index] = Group(
                    targets=(*group.targets, name),
                    constraints=shared(group.constraints, constraints),
                    apart_because=group.apart_because,
                )
                break
        else:
            reason = f"{name} {_conflict(groups[0].constraints, constraints)}" if groups else ""
            groups.append(Group(targets=(name,), constraints=constraints, apart_because=reason))
    return tuple(groups)


def shared(a: NumericConstraints, b: NumericConstraints) -> NumericConstraints:
    """The strictest of both: a grid within it fits both. The two must not conflict."""
    return NumericConstraints(
        weights_bits=a.weights_bits,
        weights_symmetric=a.weights_symmetric or b.weights_symmetric,
        weights_per_channel=a.weights_per_channel and b.weights_per_channel,
        weights_narrow_range=a.weights_narrow_range or b.weights_narrow_range,
        activations_bits=a.activations_bits,
        activations_symmetric=a.activations_symmetric,
        activations_per_channel=a.activations_per_channel and b.activations_per_channel,
        quantize_outputs=a.quantize_outputs or b.quantize_outputs,
        overflow_fix=a.overflow_fix or b.overflow_fix,
        # What only one of them fuses needs a grid of its own on the other.
        fused_activations=tuple(name for name in a.fused_activations if name in b.fused_activations),
        same_grid_ops=tuple(dict.fromkeys((*a.same_grid_ops, *b.same_grid_ops))),
        one_grid_ops=tuple(dict.fromkeys((*a.one_grid_ops, *b.one_grid_ops))),
        fixed_output_ranges={**a.fixed_output_ranges, **b.fixed_output_ranges},
    )


def _conflict(a: NumericConstraints, b: NumericConstraints) -> str:
    """Why no grid fits both, as the end of a sentence about b's target; '' where one does."""
    if a.activations_symmetric != b.activations_symmetric:
        return f"needs {_symmetry(b)} activations, the others {_symmetry(a)} ones"
    for what, ours, theirs in (
        ("weights", a.weights_bits, b.weights_bits),
        ("activations", a.activations_bits, b.activations_bits),
    ):
        if ours != theirs:
            return f"computes with {theirs}-bit {what}, the others with {ours}-bit ones"
    ours_fixed, theirs_fixed = a.fixed_output_ranges, b.fixed_output_ranges
    for operator in ours_fixed.keys() & theirs_fixed.keys():
        if tuple(ours_fixed[operator]) != tuple(theirs_fixed[operator]):
            return f"has another grid built into its kernel of {operator}"
    return ""


def _symmetry(constraints: NumericConstraints) -> str:
    return "symmetric (zero point 0)" if constraints.activations_symmetric else "asymmetric"


def why_not_on(grid: NumericConstraints, target: NumericConstraints) -> str:
    """Why a target can't take a grid that was made under `grid`, as the end of a sentence about it; '' where it can."""
    if conflict := _conflict(grid, target):
        return conflict
    both = shared(grid, target)
    differing = [name for name in type(grid).model_fields if _comparable(grid, name) != _comparable(both, name)]
    return f"is stricter about {', '.join(differing)}" if differing else ""


def _comparable(constraints: NumericConstraints, name: str) -> object:
    value = getattr(constraints, name)
    return frozenset(value) if isinstance(value, tuple) else value
