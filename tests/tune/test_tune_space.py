"""What a search may combine is what the methods take, in an order that a recipe may have."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import optuna
import pytest

from edgepack.core.errors import RecipeError
from edgepack.methods import METHODS
from edgepack.recipe import CompressStep, Recipe
from edgepack.tune.ladder import RUNGS, promoted, shortened, trains
from edgepack.tune.space import SPACE, in_words, searched_methods, starts, suggest

SLOTS = {searched.slot for searched in SPACE.values()} - {"grid"}
EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion_mnist" / "edgepack.toml"


def recipe(**tune: Any) -> Recipe:
    return Recipe.model_validate({**tomllib.loads(EXAMPLE.read_text(encoding="utf-8")), "tune": tune})


def check(steps: tuple[CompressStep, ...]) -> None:
    """As a plan checks them."""
    methods: list[Any] = [METHODS.load(step.method) for step in steps]
    decoded = [kind.model_validate(step.options()) for kind, step in zip(methods, steps, strict=True)]
    phases = [method.phase for method in decoded]
    assert phases == sorted(phases)


def test_every_searched_method_and_option_exists() -> None:
    for name, searched in SPACE.items():
        fields = METHODS.load(name).model_fields
        assert {*searched.options, *searched.instead_of} <= set(fields), name


def test_random_combinations_are_what_a_recipe_may_have() -> None:
    whole = recipe()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()

    for _ in range(150):
        steps = suggest(study.ask(), whole, searched_methods(whole))
        check(steps)
        for share in RUNGS:
            check(shortened(steps, share, samples=1000))
        seen |= {step.method for step in steps}

    assert seen == set(SPACE)


def test_a_search_begins_with_rounding_and_with_each_method_before_it() -> None:
    first, *others = starts(searched_methods(recipe()))

    assert first["grid"] == "quantize" and {first[slot] for slot in SLOTS} == {"none"}
    named = {values[slot] for values in others for slot in SLOTS if values[slot] != "none"}
    assert named == set(SPACE) - {"quantize"}


def test_the_recipes_own_options_stay_where_nothing_is_searched() -> None:
    fixed = optuna.trial.FixedTrial({"grid": "quantize", "quantize.mode": "qat"})

    (step,) = suggest(fixed, recipe(), ["quantize"])

    assert step.options()["train"] == {"epochs": 3, "batch_size": 64, "learning_rate": 3e-4, "augment": ["hflip"]}


def test_a_method_that_the_recipe_lacks_trains_like_its_first_step_for_its_own_default_length() -> None:
    fixed = optuna.trial.FixedTrial(
        {"channels": "prune_channels", "prune_channels.sparsity": 0.5, "prune_channels.of": "macs"}
    )

    (step,) = suggest(fixed, recipe(), ["prune_channels"])

    assert step.options()["train"] == {"epochs": 10, "batch_size": 64, "learning_rate": 3e-4, "augment": ["hflip"]}
    assert in_words((step,)) == "prune_channels 0.5 macs"


def test_layers_that_may_be_left_alone_are_named_as_each_method_names_them() -> None:
    whole = recipe(layers=["stem.0", "head"])
    values = {"weights": "prune_magnitude", "prune_magnitude.sparsity": 0.5, "prune_magnitude.scope": "layer"}
    fixed = optuna.trial.FixedTrial(
        {**values, "prune_magnitude.leaves.stem.0": True, "prune_magnitude.leaves.head": False}
    )

    (step,) = suggest(fixed, whole, ["prune_magnitude"])
    first = [
        suggest(optuna.trial.FixedTrial(one), whole, list(SPACE)) for one in starts(list(SPACE), whole.tune.layers)
    ]

    assert step.options()["ignore"] == ["stem.0.weight"]
    assert in_words((step,)) == "prune_magnitude 0.5 layer without stem.0.weight"
    assert not any("ignore" in step.options() for steps in first for step in steps)


def test_a_method_that_cannot_be_searched_is_refused_by_name() -> None:
    with pytest.raises(
        RecipeError, match=r"tune.methods: 'prune_chanels' can't be searched \(did you mean 'prune_channels'\?\)"
    ):
        searched_methods(recipe(methods=["prune_chanels"]))


def test_a_short_training_is_a_share_of_the_steps_of_the_whole() -> None:
    step = CompressStep.model_validate({"method": "quantize", "train": {"epochs": 9, "batch_size": 10, "holdout": 0.1}})

    (short,) = shortened((step,), 1 / 9, samples=100)

    assert short.options()["train"] == {"batch_size": 10, "holdout": 0.1, "steps": 9}
    assert shortened((step,), 1.0, samples=100) == (step,)
    assert trains((step,)) and not trains((CompressStep(method="sort_channels"),))


def test_the_best_third_goes_on() -> None:
    others = [(0.0, float(number)) for number in range(8)]

    assert [promoted((0.0, rank + 0.5), others) for rank in range(8)] == [True, True] + [False] * 6
    assert promoted((9.0,), [])
