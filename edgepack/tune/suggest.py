"""A combination chosen from the space, its strength solved for the size, and where a search begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgepack.methods import METHODS
from edgepack.network.training import Training
from edgepack.recipe import CompressStep, Recipe
from edgepack.tune.guess import SizeGuess
from edgepack.tune.ladder import steps_of
from edgepack.tune.space import SPACE, STARTS, Choice, Range

NONE = "none"
_LENGTH = ("epochs", "steps")
_EPOCHS = 5  # of a method that doesn't say how long it trains
_UPDATES = 40  # of the masks, over a training whose length we choose
_AIM, _AIM_LOW, _AIM_START = "aim", 0.7, 0.97  # the share of the size that a combination is made for
_RATE, _RATE_MAX = "rate", 10.0
_SENSITIVE, _LEAVES = "sensitive", "leaves.{layer}"


class Chooser(Protocol):
    """What names a value: Optuna's trial, or a table of values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Values that are known, chosen as a trial chooses its own."""

    values: Mapping[str, Any]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self.values[name])

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.values[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What one search chooses from. `samples` are those that trials train on. `guess` says what combinations take, and `aim_bytes` what they may: without
    both, how strong a method is is searched like its other options. `sensitive` are layers by module name, the most sensitive first."""

    recipe: Recipe
    methods: tuple[str, ...]
    samples: int
    sensitive: tuple[str, ...] = ()
    guess: SizeGuess | None = None
    aim_bytes: int | None = None

    def suggest(self, chooser: Chooser) -> tuple[CompressStep, ...]:
        """A combination, in the order in which a recipe must have its steps. Options that are not searched are the recipe's own, where it has that method."""
        names = self._names(chooser)
        solved = self._solved(names)
        left = self._left_alone(chooser) if any(SPACE[name].ignores for name in names) else []
        values = {
            name: self._values(chooser, name, left, but=SPACE[name].strength if name == solved else "")
            for name in names
        }
        if not solved:
            return self._steps(values)
        assert self.guess is not None and self.aim_bytes is not None
        option = SPACE[solved].strength
        bounds = SPACE[solved].options[option]
        assert isinstance(bounds, Range)

        def steps_at(strength: float) -> tuple[CompressStep, ...]:
            return self._steps({**values, solved: {**values[solved], option: round(strength, 4)}})

        aim = chooser.suggest_float(_AIM, _AIM_LOW, 1.0)
        return steps_at(self.guess.solve(steps_at, bounds.low, bounds.high, aim * self.aim_bytes))

    def starts(self) -> Iterator[dict[str, Any]]:
        """Where a search begins, as Optuna's parameters: rounding alone, then combinations and each other method alone before it, aimed at the size, or
        with values from the middle of their ranges, and no layer left alone."""
        slots = _slots(self.methods)
        nothing_left = dict.fromkeys((_LEAVES.format(layer=layer) for layer in self.recipe.tune.layers), False) | {
            _SENSITIVE: 0
        }
        grid = slots.get("grid", [])[:1]
        seen = [grid, *([*names, *grid] for names in STARTS if all(name in self.methods for name in names))]
        for names in seen:
            if names:
                chosen = {slot: next((name for name in names if name in of), NONE) for slot, of in slots.items()}
                options = {key: value for name in names for key, value in self._middle(name).items()}
                yield {**chosen, **nothing_left, **options, _AIM: _AIM_START}

    def _names(self, chooser: Chooser) -> list[str]:
        chosen: list[str] = []
        for slot, names in _slots(self.methods).items():
            possible = [name for name in names if not set(SPACE[name].never_with) & set(chosen)]
            if possible and (name := chooser.suggest_categorical(slot, [NONE, *possible])) != NONE:
                chosen.append(name)
        return chosen

    def _solved(self, names: Sequence[str]) -> str:
        """The method whose strength follows from the size: the last one that can be turned. '' where none is."""
        if self.guess is None or self.aim_bytes is None or not any(SPACE[name].slot == "grid" for name in names):
            return ""
        return next((name for name in reversed(names) if SPACE[name].strength), "")

    def _values(self, chooser: Chooser, name: str, left: Sequence[str], *, but: Sequence[str]) -> dict[str, Any]:
        """The options of a method that are searched, without those. `left` are the layers that are left alone."""
        values: dict[str, Any] = {}
        for option, space in SPACE[name].options.items():
            key = f"{name}.{option}"
            if option in but:
                continue
            if isinstance(space, Choice):
                values[option] = chooser.suggest_categorical(key, list(space.of))
            else:
                values[option] = round(chooser.suggest_float(key, space.low, space.high, log=space.log), 4)
        values = {option: value for option, value in values.items() if value is not None}
        if left and (pattern := SPACE[name].ignores):
            own = _own(self.recipe, name).get("ignore", ())
            values["ignore"] = list(dict.fromkeys([*own, *(pattern.format(layer=layer) for layer in left)]))
        if self._learns_anew(name):
            values[_RATE] = chooser.suggest_float(f"{name}.{_RATE}", 1.0, _RATE_MAX, log=True)
        return values

    def _left_alone(self, chooser: Chooser) -> list[str]:
        """Which layers all methods of a combination leave alone: any of `tune.layers`, and the most sensitive ones."""
        layers = self.recipe.tune.layers
        left = [layer for layer in layers if chooser.suggest_categorical(_LEAVES.format(layer=layer), [False, True])]
        counts = list(range(1 + min(self.recipe.tune.sensitive_max, len(self.sensitive))))
        if len(counts) > 1:
            left += self.sensitive[: chooser.suggest_categorical(_SENSITIVE, counts)]
        return list(dict.fromkeys(left))

    def _middle(self, name: str) -> dict[str, Any]:
        searched = SPACE[name]
        rate = {f"{name}.{_RATE}": searched.rate} if self._learns_anew(name) else {}
        return {f"{name}.{option}": space.start for option, space in searched.options.items()} | rate

    def _learns_anew(self, name: str) -> bool:
        """Whether a method trains, and the recipe doesn't say how."""
        return "train" in METHODS.load(name).model_fields and not isinstance(_own(self.recipe, name).get("train"), dict)

    def _steps(self, values: Mapping[str, Mapping[str, Any]]) -> tuple[CompressStep, ...]:
        steps = [self._step(name, options) for name, options in values.items()]
        return tuple(sorted(steps, key=lambda step: int(METHODS.load(step.method).phase)))

    def _step(self, name: str, values: Mapping[str, Any]) -> CompressStep:
        """A step of the recipe with searched values in it."""
        own, fields = _own(self.recipe, name), METHODS.load(name).model_fields
        options = {key: value for key, value in own.items() if key not in SPACE[name].instead_of}
        options |= {key: value for key, value in values.items() if key != _RATE}
        if "train" in fields:
            options["train"] = self._training(name, own, rate=values.get(_RATE, 1.0))
            if "update_every" in fields and self._learns_anew(name):
                options.setdefault("update_every", max(1, options["train"].get("steps", 0) // _UPDATES))
        for (option, value), dropped in SPACE[name].without.items():
            if values.get(option) == value:
                options = {key: item for key, item in options.items() if key not in dropped}
        return CompressStep.model_validate({"method": name, **options})

    def _training(self, name: str, own: Mapping[str, Any], *, rate: float) -> dict[str, Any]:
        """How a step trains: as the recipe's own step does, else as its first step that trains, `rate` times as fast, for as long as the method does by
        default, and `tune.steps_max` steps at most."""
        if not self._learns_anew(name):
            return dict(own["train"])
        others = [step.options().get("train") for step in self.recipe.compress]
        like = next((item for item in others if isinstance(item, dict)), {})
        default = METHODS.load(name).model_fields["train"].default
        train = {key: value for key, value in like.items() if key not in _LENGTH}
        long = Training.model_validate({**train, "epochs": getattr(default, "epochs", None) or _EPOCHS})
        train["learning_rate"] = float(f"{long.learning_rate * rate:.2g}")
        return {**train, "steps": min(self.recipe.tune.steps_max, steps_of(long, self.samples))}


def _unasked(name: str, beside: Sequence[str]) -> list[str]:
    """Options of a method that mean nothing beside the others."""
    return [option for option, methods in SPACE[name].options_never_with.items() if set(methods) & set(beside)]


def _own(recipe: Recipe, name: str) -> Mapping[str, Any]:
    return next((step.options() for step in recipe.compress if step.method == name), {})


def _slots(methods: Sequence[str]) -> dict[str, list[str]]:
    slots: dict[str, list[str]] = {}
    for name in methods:
        slots.setdefault(SPACE[name].slot, []).append(name)
    return slots
