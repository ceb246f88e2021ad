"""A build that updates an older bundle: is it one of the same model, for a target that can take its grid? Asked while planning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgepack.bundle.update_base import Base, read_base
from edgepack.core.errors import RecipeError
from edgepack.core.section import validate
from edgepack.grouping import Group, why_not_on
from edgepack.methods.protocol import Method, Phase
from edgepack.recipe import InputSection
from edgepack.targets import NumericConstraints

_REMEDY = "name a bundle of the same model in 'update_of', or leave it out to fit new scales"


def base_of(
    file: Path, group: Group, target: str, *, inputs: Sequence[InputSection], steps: Sequence[tuple[str, Method]]
) -> Base:
    """The base of a build for `target`, whose group of targets shares one grid. Raises RecipeError where it is none for this build."""
    base = read_base(file, target=target)
    about = f"update_of: {file} ({base.name} {base.version}, {base.target})"
    if not any(method.phase is Phase.GRID for _, method in steps):
        raise RecipeError(
            f'{about}: keeps a grid, and no step of this recipe sets one; add a [[compress]] table with method = "quantize"'
        )
    _refuse_other_inputs(base, inputs, about)
    constraints = validate(NumericConstraints, base.constraints, where=about)
    if reason := why_not_on(constraints, group.constraints):
        raise RecipeError(
            f"{about}: target '{target}' {reason}; its grid was made for {', '.join(base.targets)}: build for these, or leave 'update_of' out"
        )
    _refuse_other_channels(base, steps, about)
    return base


def refuse_other_weights(base: Base, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises RecipeError unless every weight of the base's grid is in the model, with its shape where no channels were removed.

    `shapes` are those of the loaded float model's parameters by name.
    """
    about = f"update_of: {base.path} ({base.name} {base.version}, {base.target}): another architecture"
    narrowed = any(edit["kind"] == "prune" for edit in base.edits)
    factors = tuple(f"{layer}." for edit in base.edits if edit["kind"] == "factor" for layer in edit["ranks"])
    for name, shape in base.grid.shapes.items():
        if name.startswith(factors):
            continue  # this build makes the same factors
        if name not in shapes:
            raise RecipeError(f"{about}: it has a weight '{name}', this model has none of that name; {_REMEDY}")
        if shapes[name] != shape and not narrowed:
            raise RecipeError(
                f"{about}: its weight '{name}' has the shape {list(shape)}, this model's {list(shapes[name])}; {_REMEDY}"
            )


def _refuse_other_inputs(base: Base, inputs: Sequence[InputSection], about: str) -> None:
    """A border layout may turn an image's dimensions, so they are compared in any order."""
    ours = {item.name: sorted(item.shape) for item in inputs}
    theirs = {name: sorted(shape[1:]) for name, shape in base.inputs}
    if ours != theirs:
        raise RecipeError(
            f"{about}: another architecture: it takes {_listed(theirs)}, this model {_listed(ours)}; {_REMEDY}"
        )


def _listed(inputs: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"'{name}' of {'×'.join(map(str, shape))}" for name, shape in inputs.items())


def _refuse_other_channels(base: Base, steps: Sequence[tuple[str, Method]], about: str) -> None:
    """Channels must be removed and ordered as the base's were."""
    ours = [name for name, method in steps if method.phase in (Phase.STRUCTURE, Phase.FACTORS, Phase.ORDER)]
    theirs = [str(edit["method"]) for edit in base.edits]
    if ours != theirs:
        raise RecipeError(
            f"{about}: its channels were changed by {_steps(theirs)}, this recipe's are changed by {_steps(ours)}; "
            "an update keeps the base's channels: give the recipe the same steps"
        )


def _steps(names: Sequence[str]) -> str:
    return ", then ".join(names) or "no step"
