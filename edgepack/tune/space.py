"""What a search may combine: one table of methods, their options and ranges. A new method is one line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.methods import METHODS
from edgepack.recipe import CompressStep, Recipe

NONE = "none"
_LENGTH = ("epochs", "steps")


class Chooser(Protocol):
    """What names a value: Optuna's trial, or a table of values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Any number in low…high."""

    low: float
    high: float
    log: bool = False

    @property
    def start(self) -> float:
        """Where a search begins."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of some values; a search begins with the first."""

    of: tuple[Any, ...]

    @property
    def start(self) -> Any:
        """Where a search begins."""
        return self.of[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A method's options that are searched. Of one `slot` a combination has one method at most. `instead_of` are options that can't stand beside the
    searched ones; `without` drops options where a searched one has some value: {("mode", "ptq"): ("train",)}. `ignores` is how the method's `ignore` names the
    layer {layer}; '' where it has no such choice."""

    slot: str
    options: Mapping[str, Range | Choice] = field(default_factory=dict)
    instead_of: tuple[str, ...] = ()
    without: Mapping[tuple[str, Any], tuple[str, ...]] = field(default_factory=dict)
    ignores: str = ""


SPACE: dict[str, Searched] = {
    "prune_channels": Searched(
        slot="channels",
        options={"sparsity": Range(low=0.1, high=0.7), "of": Choice(of=("parameters", "macs"))},
        ignores="{layer}",
    ),
    "low_rank": Searched(
        slot="factors",
        options={"energy": Range(low=0.7, high=0.99), "of": Choice(of=("parameters", "macs"))},
        instead_of=("keep", "ranks"),
        ignores="{layer}",
    ),
    "prune_magnitude": Searched(
        slot="weights",
        options={"sparsity": Range(low=0.3, high=0.95), "scope": Choice(of=("model", "layer"))},
        ignores="{layer}.weight",
    ),
    "prune_entropy": Searched(
        slot="weights",
        options={"sparsity": Range(low=0.3, high=0.95), "levels": Choice(of=(7, 15)), "levels_per": Choice(of=("tensor", "channel"))},
        instead_of=("max_bits_per_weight", "max_bytes"),
        ignores="{layer}.weight",
    ),
    "sort_channels": Searched(slot="order"),
    "quantize": Searched(slot="grid", options={"mode": Choice(of=("qat", "ptq"))}, without={("mode", "ptq"): ("train",)}),
}  # fmt: skip


def searched_methods(recipe: Recipe) -> tuple[str, ...]:
    """The methods that a search combines, in the table's order. Raises RecipeError for a name that can't be searched."""
    wanted = recipe.tune.methods
    for name in wanted or ():
        if name not in SPACE:
            raise RecipeError(f"tune.methods: '{name}' can't be searched{did_you_mean(name, SPACE)}")
    return tuple(name for name in SPACE if wanted is None or name in wanted)


def suggest(chooser: Chooser, recipe: Recipe, methods: Sequence[str]) -> tuple[CompressStep, ...]:
    """A combination, in the order in which a recipe must have its steps. Options that are not searched are the recipe's own, where it has that method."""
    chosen = []
    for slot, names in _slots(methods).items():
        name = chooser.suggest_categorical(slot, [NONE, *names])
        if name == NONE:
            continue
        values: dict[str, Any] = {}
        for option, space in SPACE[name].options.items():
            key = f"{name}.{option}"
            if isinstance(space, Choice):
                values[option] = chooser.suggest_categorical(key, list(space.of))
            else:
                values[option] = round(chooser.suggest_float(key, space.low, space.high, log=space.log), 4)
        if left := _left_alone(chooser, name, recipe.tune.layers):
            own = next((step.options().get("ignore", ()) for step in recipe.compress if step.method == name), ())
            values["ignore"] = [*own, *(one for one in left if one not in own)]
        chosen.append(_step(recipe, name, values))
    return tuple(sorted(chosen, key=lambda step: int(METHODS.load(step.method).phase)))


def _left_alone(chooser: Chooser, name: str, layers: Sequence[str]) -> list[str]:
    """Which of the layers a method leaves alone, as its `ignore` names them."""
    pattern = SPACE[name].ignores
    asked = layers if pattern else ()
    return [
        pattern.format(layer=layer)
        for layer in asked
        if chooser.suggest_categorical(f"{name}.leaves.{layer}", [False, True])
    ]


def starts(methods: Sequence[str], layers: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Where a search begins, as Optuna's parameters: rounding alone, then each other method before it, with values from the middle of its ranges
    and no layer left alone."""
    slots = _slots(methods)
    grid = slots.get("grid", [])
    rounded = {"grid": grid[0], **_middle(grid[0], layers)} if grid else {}
    nothing = dict.fromkeys(slots, NONE)
    if grid:
        yield {**nothing, **rounded}
    for slot, names in slots.items():
        for name in names if slot != "grid" else ():
            yield {**nothing, **rounded, slot: name, **_middle(name, layers)}


def in_words(steps: Sequence[CompressStep]) -> str:
    """A combination in a line: its methods, each with the options that were searched.

    >>> in_words([CompressStep(method="prune_magnitude", sparsity=0.5, scope="layer"), CompressStep(method="quantize", mode="qat")])
    'prune_magnitude 0.5 layer + quantize qat'
    """
    told = []
    for step in steps:
        options = step.options()
        values = [options[name] for name in SPACE[step.method].options if name in options]
        words = [step.method, *(f"{value:g}" if isinstance(value, float) else str(value) for value in values)]
        told.append(" ".join(words) + (f" without {', '.join(options['ignore'])}" if options.get("ignore") else ""))
    return " + ".join(told) or "nothing"


def _slots(methods: Sequence[str]) -> dict[str, list[str]]:
    slots: dict[str, list[str]] = {}
    for name in methods:
        slots.setdefault(SPACE[name].slot, []).append(name)
    return slots


def _middle(name: str, layers: Sequence[str]) -> dict[str, Any]:
    left = dict.fromkeys((f"{name}.leaves.{layer}" for layer in layers), False) if SPACE[name].ignores else {}
    return {f"{name}.{option}": space.start for option, space in SPACE[name].options.items()} | left


def _step(recipe: Recipe, name: str, values: Mapping[str, Any]) -> CompressStep:
    """A step of the recipe with searched values in it."""
    own = next((step.options() for step in recipe.compress if step.method == name), {})
    options = {key: value for key, value in own.items() if key not in SPACE[name].instead_of} | dict(values)
    if "train" in METHODS.load(name).model_fields:
        options["train"] = _training(recipe, name, own)
    for (option, value), dropped in SPACE[name].without.items():
        if values.get(option) == value:
            options = {key: item for key, item in options.items() if key not in dropped}
    return CompressStep.model_validate({"method": name, **options})


def _training(recipe: Recipe, name: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """How a step trains: as the recipe's own step does, else as its first step that trains, for as long as the method does by default."""
    if isinstance(own.get("train"), dict):
        return dict(own["train"])
    others = [step.options().get("train") for step in recipe.compress]
    like = next((item for item in others if isinstance(item, dict)), {})
    default = METHODS.load(name).model_fields["train"].default
    return {
        **{key: value for key, value in like.items() if key not in _LENGTH},
        "epochs": getattr(default, "epochs", None) or 5,
    }
