"""What a search may combine: one table of methods, their options and ranges. A new method is one line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.methods import METHODS
from edgepack.methods.protocol import Phase
from edgepack.recipe import CompressStep, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Any number in low…high. A search begins with `first`, or in the middle."""

    low: float
    high: float
    log: bool = False
    first: float | None = None

    @property
    def start(self) -> float:
        """Where a search begins."""
        return (self.low + self.high) / 2 if self.first is None else self.first


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
    """A method's options that are searched. Of one `slot` a combination has one method at most, and none of those in `never_with`; an option is not searched
    beside the methods that `options_never_with` has for it.

    `strength` is the one that makes it smaller, a Range: where the size is limited it is not searched but solved for the size. `instead_of` are options that
    can't stand beside the searched ones; `without` drops options where a searched one has some value: {("mode", "ptq"): ("train",)}. `ignores` is how the
    method's `ignore` names the layer {layer}; '' where it has no such choice. `rate` is how much faster than the recipe's training its own begins to learn.
    """

    slot: str
    options: Mapping[str, Range | Choice] = field(default_factory=dict)
    strength: str = ""
    never_with: tuple[str, ...] = ()
    options_never_with: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instead_of: tuple[str, ...] = ()
    without: Mapping[tuple[str, Any], tuple[str, ...]] = field(default_factory=dict)
    ignores: str = ""
    rate: float = 3.0


SPACE: dict[str, Searched] = {
    "prune_channels": Searched(
        slot="channels",
        options={"sparsity": Range(low=0.1, high=0.8, first=0.25), "of": Choice(of=("parameters", "macs"))},
        strength="sparsity",
        ignores="{layer}",
    ),
    "low_rank": Searched(
        slot="factors",
        options={"energy": Range(low=0.5, high=0.99), "of": Choice(of=("parameters", "macs"))},
        strength="energy",
        instead_of=("keep", "ranks"),
        ignores="{layer}",
    ),
    "prune_magnitude": Searched(
        slot="weights",
        options={"sparsity": Range(low=0.1, high=0.97), "scope": Choice(of=("model", "layer"))},
        strength="sparsity",
        ignores="{layer}.weight",
    ),
    "prune_entropy": Searched(
        slot="weights",
        options={"sparsity": Range(low=0.1, high=0.98), "levels": Choice(of=(7, 15)), "levels_per": Choice(of=("tensor", "channel"))},
        strength="sparsity",
        instead_of=("max_bits_per_weight", "max_bytes"),
        ignores="{layer}.weight",
    ),
    "palettize": Searched(
        slot="sharing",
        options={"bits": Choice(of=(3, 2, 4, 5, 6)), "group_channels": Choice(of=(None, 16))},
        never_with=("prune_entropy",),  # which gives the weights levels of its own
        ignores="{layer}.weight",
        rate=1.0,
    ),
    "sort_channels": Searched(slot="order"),
    "quantize": Searched(
        slot="grid",
        options={"mode": Choice(of=("ptq", "qat")), "weights_bits": Choice(of=(8, 4)), "int4_share": Range(low=0.5, high=1.0)},
        # Their weights have few values already.
        options_never_with={"weights_bits": ("prune_entropy", "palettize"), "int4_share": ("prune_entropy", "palettize")},
        instead_of=("max_weight_bytes",),
        without={("mode", "ptq"): ("train",), ("weights_bits", 8): ("weights_bits", "int4_share")},
    ),
}  # fmt: skip
# What a search begins with: combinations that served many networks, each method alone, those first that are good more often. None needs another one's result.
STARTS: tuple[tuple[str, ...], ...] = (
    ("prune_entropy", "sort_channels"), ("prune_channels", "prune_entropy", "sort_channels"), ("prune_entropy",),
    ("prune_magnitude", "palettize", "sort_channels"), ("prune_magnitude",), ("palettize",), ("low_rank",), ("prune_channels",), ("sort_channels",),
)  # fmt: skip


def searched_methods(recipe: Recipe) -> tuple[str, ...]:
    """The methods that a search combines, in the table's order. Raises RecipeError for a name, or a step of the recipe, that can't be searched."""
    _refuse_unsearched(recipe)
    wanted = recipe.tune.methods
    for name in wanted or ():
        if name not in SPACE:
            raise RecipeError(f"tune.methods: '{name}' can't be searched{did_you_mean(name, SPACE)}")
    return tuple(name for name in SPACE if wanted is None or name in wanted)


def _refuse_unsearched(recipe: Recipe) -> None:
    """Raises RecipeError for a step that no trial would have: leaving it out in silence would judge another network than the recipe's."""
    for index, step in enumerate(recipe.compress):
        if step.method in SPACE:
            continue
        why = "a search can't combine it with others, and would leave it out; remove the step"
        if METHODS.load(step.method).phase is Phase.STUDENT:
            why = (
                "a search combines methods on the network of [model], and would leave this student out; build it alone first, "
                "then search with the trained student as [model] (docs/tune.md#students)"
            )
        raise RecipeError(f"tune: compress.{index} ({step.method}): {why}")


def methods_in(steps: Sequence[CompressStep]) -> frozenset[str]:
    """The methods of a combination, without the rounding that nearly all have."""
    return frozenset(step.method for step in steps if SPACE[step.method].slot != "grid")


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
