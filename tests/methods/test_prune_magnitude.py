"""Magnitude pruning with a pattern: the zeros lie where kernels want them, through QAT and in the files of all runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from methods.test_prune_channels import context, tiny
from small_project import Project, seeded_network

from edgepack.bundle.update_base import read_base
from edgepack.core.errors import RecipeError
from edgepack.core.section import validate
from edgepack.methods.prune_magnitude import PruneMagnitude
from edgepack.methods.quantize import Quantize
from edgepack.network.fold import program_of
from edgepack.network.model import Model, load_model, save_model
from edgepack.pipeline import build_all
from edgepack.plan import make_plan

TRAIN = {"steps": 6, "batch_size": 8, "learning_rate": 1e-3}
STEPS = '[[compress]]\nmethod = "prune_magnitude"\npattern = "{pattern}"\n{more}\nupdate_every = 1\n[compress.train]\nsteps = 6\nbatch_size = 8\n\n'
QUANTIZE = '[[compress]]\nmethod = "quantize"\nmode = "ptq"\n'


def pruned(model: Model, folder: Path, **options: Any) -> Model:
    folder.mkdir(exist_ok=True)
    method = PruneMagnitude.model_validate({"train": TRAIN, "update_every": 1, **options})
    return method.apply(model, context(tiny(), folder))


def kept_of_four(codes: Any) -> Any:
    """How many of each four weights along the input channels are other than zero."""
    return np.count_nonzero(np.moveaxis(codes, 1, -1).reshape(-1, 4), axis=1)


def blocks_of_four(codes: Any) -> Any:
    """How many weights of each block of four outputs are other than zero."""
    return np.count_nonzero(codes.reshape(len(codes) // 4, 4, -1), axis=1)


def test_two_of_four_stay_through_training_of_the_grid(tmp_path: Path) -> None:
    model = pruned(tiny(), tmp_path, pattern="2:4")
    done = Quantize.model_validate({"mode": "qat", "train": TRAIN}).apply(model, context(tiny(), tmp_path / "qat"))

    facts = model.lineage[-1]
    assert facts["pattern"] == "2:4" and facts["zeros"] * 2 == facts["weights"]
    assert facts["left_alone"] == {
        "stem.0.weight": "its input channels (1) are no multiple of 4",
        "block.0.weight": "its input channels (1 in each group) are no multiple of 4",
    }
    codes = {layer.name: layer.codes for layer in program_of(done).layers}
    for name in ("block.3.weight", "down.0.weight", "classifier.weight"):
        assert kept_of_four(codes[name]).max() == 2


def test_blocks_of_outputs_are_zero_as_a_whole(tmp_path: Path) -> None:
    model = pruned(tiny(), tmp_path, pattern="4x1", sparsity=0.5)

    facts = model.lineage[-1]
    assert facts["zeros"] == facts["weights"] // 2
    assert set(facts["left_alone"]) == {"block.0.weight"}
    for layer in program_of(model).layers:
        if layer.name not in facts["left_alone"]:
            assert set(blocks_of_four(layer.weight).ravel()) == {0, 4}


def test_a_stored_model_has_its_pattern_again(tmp_path: Path) -> None:
    model = pruned(tiny(), tmp_path, pattern="1:4")

    save_model(model, tmp_path)

    again = load_model(seeded_network, tmp_path)
    assert kept_of_four(program_of(again).layers[-1].weight).max() == 1
    assert torch.equal(again.network(again.example()[0]), model.network.eval()(model.example()[0]))


def test_a_weight_comes_back_when_it_has_grown(tmp_path: Path) -> None:
    """Masks are chosen anew while sparsity rises, from the values that masked weights keep."""
    short = pruned(tiny(), tmp_path / "short", pattern="2:4", ramp=0.0)
    long = pruned(tiny(), tmp_path / "long", pattern="2:4", ramp=1.0, train={**TRAIN, "learning_rate": 0.05})

    masks = [program_of(one).layers[-1].weight != 0 for one in (short, long)]
    assert not np.array_equal(*masks)


def test_an_ignored_layer_stays_dense(tmp_path: Path) -> None:
    model = pruned(tiny(), tmp_path, pattern="2:4", ignore=["down.0.weight"])

    assert model.lineage[-1]["left_alone"]["down.0.weight"] == "the recipe says so"
    assert bool((model.network.get_parameter("down.0.weight") != 0).all())


def test_a_pattern_that_no_layer_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r'no layer of this model can have "3:7" \(\'stem\.0\.weight\': its input channels'
    ):
        pruned(tiny(), tmp_path, pattern="3:7")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "sparsity: this key is required and missing"),
        ({"pattern": "4x1"}, "sparsity: this key is required and missing"),
        ({"pattern": "2:4", "sparsity": 0.8}, 'sparsity: pattern = "2:4" makes 0.5 of the weights zero, never 0.8'),
        ({"pattern": "2:4", "scope": "model"}, "takes the same share of each layer; leave 'scope' out"),
        ({"pattern": "4:2"}, "pattern: '4:2': N of M needs 0 < N < M"),
        ({"sparsity": 1.0}, "sparsity: Input should be less than 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as failure:
        validate(PruneMagnitude, options, where="compress.0 (prune_magnitude)")

    assert message in str(failure.value)


def test_the_implied_share_may_be_written_out() -> None:
    assert validate(PruneMagnitude, {"pattern": "1:4", "sparsity": 0.75}, where="test").sparsity == 0.75


def test_channels_with_a_pattern_are_not_sorted(tiny_project: Callable[..., Project]) -> None:
    sort = '[[compress]]\nmethod = "sort_channels"\n'

    with pytest.raises(
        RecipeError, match=r"compress\.1: sort_channels can't come after prune_magnitude: moving channels would break"
    ):
        make_plan(tiny_project(STEPS.format(pattern="2:4", more="") + sort).folder)

    make_plan(tiny_project(STEPS.format(pattern="unstructured", more="sparsity = 0.5") + sort, name="other").folder)


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "more"), [("2:4", ""), ("4x1", "sparsity = 0.5"), ("1x4", "sparsity = 0.5")])
def test_the_files_of_all_runtimes_hold_the_pattern(
    pattern: str, more: str, tiny_project: Callable[..., Project]
) -> None:
    """The codes are read from the files and turned from the runtime's order of axes to that of the network."""
    steps = STEPS.format(pattern=pattern, more=more) + QUANTIZE
    made = build_all(
        tiny_project(steps).folder, targets=["arm64", "intel", "x86_64"], allow_failed_checks=True
    )  # fmt: skip

    for bundle in made.bundles:
        codes = read_base(bundle.path, target=bundle.variant().target).codes
        for name in ("block.3.weight", "down.0.weight", "classifier.weight"):
            if pattern == "2:4":
                assert kept_of_four(codes[name]).max() == 2, bundle.path.name
            elif pattern == "4x1":
                assert (
                    np.isin(blocks_of_four(codes[name]), (0, 4)).mean() > 0.95
                )  # a weight that is kept may round to zero
                assert (blocks_of_four(codes[name]) == 0).mean() >= 0.5
            else:
                assert (kept_of_four(codes[name]) == 0).mean() >= 0.5
