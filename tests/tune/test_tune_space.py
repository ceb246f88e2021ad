"""What a search may combine is what the methods take, in an order that a recipe may have."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from edgepack.core.errors import RecipeError
from edgepack.methods import METHODS
from edgepack.recipe import CompressStep, Recipe
from edgepack.tune.guess import SizeGuess, weight_of
from edgepack.tune.ladder import RUNGS, promoted, shortened, trains
from edgepack.tune.space import SPACE, in_words, methods_in, searched_methods
from edgepack.tune.suggest import Space

SLOTS = {searched.slot for searched in SPACE.values()} - {"grid"}
EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion_mnist" / "edgepack.toml"


def recipe(**tune: Any) -> Recipe:
    return Recipe.model_validate({**tomllib.loads(EXAMPLE.read_text(encoding="utf-8")), "tune": tune})


def space(whole: Recipe | None = None, **more: Any) -> Space:
    whole = recipe() if whole is None else whole
    return Space(recipe=whole, methods=searched_methods(whole), samples=1000, **more)


def guess() -> SizeGuess:
    """Of a network of three layers, one of them large."""
    rng = np.random.default_rng(0)
    shapes = {"stem.weight": (16, 1, 3, 3), "middle.weight": (128, 64, 3, 3), "head.weight": (10, 128)}
    weights = [weight_of(name, rng.laplace(size=shape)) for name, shape in shapes.items()]
    return SizeGuess(weights=tuple(weights), overhead_bytes=2000.0)


def suggested(values: dict[str, Any], whole: Space) -> tuple[CompressStep, ...]:
    return whole.suggest(optuna.trial.FixedTrial(values))


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


@pytest.mark.parametrize("aimed", [False, True])
def test_random_combinations_are_what_a_recipe_may_have(aimed: bool) -> None:
    known = {"guess": guess(), "aim_bytes": 40_000} if aimed else {}
    whole = space(sensitive=("stem", "head"), **known)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()

    for _ in range(100):
        steps = whole.suggest(study.ask())
        check(steps)
        for share in RUNGS:
            check(shortened(steps, share, samples=1000))
        seen |= {step.method for step in steps}
        assert not {"palettize", "prune_entropy"} <= methods_in(steps)

    assert seen == set(SPACE)


def test_a_search_begins_with_rounding_and_tries_each_method_alone_and_combinations() -> None:
    first, *others = [suggested(values, space()) for values in space().starts()]

    assert [step.method for step in first] == ["quantize"] and first[0].options()["mode"] == "ptq"
    alone = [methods_in(steps) for steps in others if len(methods_in(steps)) == 1]
    assert {name for names in alone for name in names} == set(SPACE) - {"quantize"}
    assert any(len(methods_in(steps)) > 1 for steps in others)
    assert all(steps[-1].method == "quantize" for steps in others)


def test_each_start_is_as_strong_as_the_size_asks_for() -> None:
    known = guess()
    whole = space(guess=known, aim_bytes=20_000)

    sizes = {
        methods_in(steps): known.bytes_of(steps)
        for steps in (suggested(values, whole) for values in whole.starts())
        if any(SPACE[name].strength for name in methods_in(steps))
    }

    shares = [round(size / 20_000, 2) for size in sizes.values()]
    assert shares.count(0.97) >= 4  # the others have no strength that gives that size


def test_a_step_of_the_recipe_trains_as_it_says() -> None:
    values = {"grid": "quantize", "quantize.mode": "qat", "quantize.weights_bits": 8, "quantize.int4_share": 0.5}

    (step,) = suggested(values, space(recipe(methods=["quantize"])))

    assert step.options().keys() == {"mode", "train"}
    assert step.options()["train"] == {"epochs": 3, "batch_size": 64, "learning_rate": 3e-4, "augment": ["hflip"]}


def test_a_method_that_the_recipe_lacks_trains_like_its_first_step_for_its_own_default_length_but_not_too_long() -> (
    None
):
    values = {"weights": "prune_entropy", "prune_entropy.sparsity": 0.5, "prune_entropy.levels": 7}
    values |= {"prune_entropy.levels_per": "tensor", "prune_entropy.rate": 3.0}

    (short,) = suggested(values, space(recipe(methods=["prune_entropy"])))
    (long,) = suggested(values, space(recipe(methods=["prune_entropy"], steps_max=80)))

    alike = {"batch_size": 64, "learning_rate": 9e-4, "augment": ["hflip"]}
    assert short.options()["train"] == {**alike, "steps": 300}  # 20 epochs of 900 samples
    assert long.options()["train"] == {**alike, "steps": 80} and long.options()["update_every"] == 2
    assert in_words((short,)) == "prune_entropy 0.5 7 tensor"


def test_layers_that_may_be_left_alone_are_named_as_each_method_names_them() -> None:
    whole = space(
        recipe(layers=["stem.0"], methods=["prune_channels", "prune_magnitude"]), sensitive=("head", "stem.0")
    )
    values = {"channels": "prune_channels", "prune_channels.sparsity": 0.5, "prune_channels.of": "macs"}
    values |= {"weights": "prune_magnitude", "prune_magnitude.sparsity": 0.5, "prune_magnitude.scope": "layer"}
    values |= {"prune_channels.rate": 1.0, "prune_magnitude.rate": 1.0, "leaves.stem.0": True, "sensitive": 1}

    channels, weights = suggested(values, whole)

    assert channels.options()["ignore"] == ["stem.0", "head"]
    assert weights.options()["ignore"] == ["stem.0.weight", "head.weight"]
    assert in_words((weights,)) == "prune_magnitude 0.5 layer without stem.0.weight, head.weight"
    assert not any("ignore" in step.options() for values in whole.starts() for step in suggested(values, whole))


def test_a_method_that_cannot_be_searched_is_refused_by_name() -> None:
    with pytest.raises(
        RecipeError, match=r"tune.methods: 'prune_chanels' can't be searched \(did you mean 'prune_channels'\?\)"
    ):
        searched_methods(recipe(methods=["prune_chanels"]))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (
            {"method": "distill", "factory": "student:small"},
            r"\(distill\): .*build it alone first, .*docs/tune.md#students",
        ),
        ({"method": "compress_weights"}, r"\(compress_weights\): a search can't combine it .*remove the step"),
        ({"method": "destill"}, r"unknown method 'destill' \(did you mean 'distill'\?\)"),
    ],
)
def test_a_step_of_the_recipe_that_no_trial_would_have_is_refused(step: dict[str, Any], why: str) -> None:
    whole = recipe().model_copy(update={"compress": (CompressStep.model_validate(step),)})

    with pytest.raises(RecipeError, match=why):
        searched_methods(whole)


def test_a_short_training_is_a_share_of_the_steps_of_the_whole() -> None:
    step = CompressStep.model_validate({"method": "quantize", "train": {"epochs": 9, "batch_size": 10, "holdout": 0.1}})

    (short,) = shortened((step,), 1 / 9, samples=100)

    assert short.options()["train"] == {"batch_size": 10, "holdout": 0.1, "steps": 9}
    pruning = CompressStep.model_validate({"method": "prune_entropy", "update_every": 8, "train": {"steps": 80}})
    assert shortened((pruning,), 1 / 4, samples=100)[0].options()["update_every"] == 2
    assert shortened((step,), 1.0, samples=100) == (step,)
    assert trains((step,)) and not trains((CompressStep(method="sort_channels"),))


def test_the_best_quarter_goes_on() -> None:
    others = [(0.0, float(number)) for number in range(8)]

    assert [promoted((0.0, rank + 0.5), others) for rank in range(8)] == [True, True] + [False] * 6
    assert promoted((9.0,), [])
