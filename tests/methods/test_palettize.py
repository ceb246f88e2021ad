"""palettize: few values a layer, found and trained; zeros stay, and what follows keeps both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from methods.test_prune_channels import context, tiny
from small_project import Project, seeded_network
from torch import nn

from edgepack.codec.pieces import take_apart
from edgepack.core.errors import RecipeError, StageError
from edgepack.methods.palettize import Palettize
from edgepack.methods.prune_entropy import PruneEntropy
from edgepack.methods.prune_magnitude import PruneMagnitude
from edgepack.methods.quantize import Quantize
from edgepack.methods.sort_channels import SortChannels
from edgepack.network.fold import program_of
from edgepack.network.keep_levels import keep_shared
from edgepack.network.model import Model, load_model, save_model
from edgepack.network.palette import Palette, attach, nearest, shared_values
from edgepack.pipeline import build_all
from edgepack.plan import make_plan

SHARED = ("stem.0.weight", "block.0.weight", "block.3.weight", "down.0.weight", "classifier.weight")
TRAIN = {"steps": 6, "batch_size": 8, "learning_rate": 1e-3}


def shared(model: Model, folder: Path, **options: Any) -> Model:
    folder.mkdir(exist_ok=True)
    return Palettize.model_validate({"bits": 3, "train": TRAIN, **options}).apply(model, context(tiny(), folder))


def quantized(model: Model, folder: Path, **options: Any) -> Model:
    folder.mkdir(exist_ok=True)
    return Quantize.model_validate({"mode": "ptq", **options}).apply(model, context(tiny(), folder))


def codes(model: Model) -> dict[str, Any]:
    return {layer.name: layer.codes for layer in program_of(model).layers if layer.name in SHARED}


def test_k_means_finds_the_values_that_are_there() -> None:
    rng = np.random.default_rng(0)
    values = (rng.choice([-0.5, 0.1, 0.2, 3.0], 4000) + rng.normal(scale=0.005, size=4000)).astype(np.float32)

    book = shared_values(values, 4)

    np.testing.assert_allclose(book, [-0.5, 0.1, 0.2, 3.0], atol=0.01)
    assert (nearest(np.array([0.16, 2.0]), book) == [2, 3]).all()


def test_values_that_are_fewer_than_the_codebook_are_kept_exactly() -> None:
    book = shared_values(np.array([0.25, -1.0, 0.25], np.float32), 4)

    assert set(book.tolist()) == {0.25, -1.0} and len(book) == 4


def test_a_shared_values_gradient_is_the_sum_over_its_weights() -> None:
    layer = nn.Linear(6, 5, bias=False)
    palette = Palette(layer.weight.detach(), entries=4, axis=0, group_channels=None, largest_code=127)
    attach(layer, "weight", palette)
    factors = torch.randn(5, 6)

    torch.autograd.backward((layer.weight * factors).sum())

    sums = torch.zeros(4).index_add(0, palette.index.flatten(), factors.flatten())
    assert palette.centroids.grad is not None
    torch.testing.assert_close(palette.centroids.grad[0], sums)


@pytest.mark.parametrize(("group", "books"), [(None, 1), (2, 3), (1, 5)])
def test_groups_of_channels_have_codebooks_of_their_own(group: int | None, books: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(7, 5, 3, 3)  # a transposed convolution: output channels along axis 1

    palette = Palette(weight, entries=8, axis=1, group_channels=group, largest_code=127)

    values = palette(weight).detach()
    assert palette.centroids.shape == (books, 8)
    for start in range(0, 5, group or 5):
        assert len(values[:, start : start + (group or 5)].unique()) <= 8
    assert float((values - weight).abs().mean()) < 0.2


@pytest.mark.parametrize("bits", [2, 4])
def test_every_layer_has_at_most_as_many_codes_as_its_codebook(bits: int, tmp_path: Path) -> None:
    done = quantized(shared(tiny(), tmp_path, bits=bits), tmp_path)

    found = codes(done)
    assert set(found) == set(SHARED)
    assert all(len(np.unique(one)) <= 2**bits for one in found.values())
    assert max(int(np.abs(one.astype(int)).max()) for one in found.values()) == 127


def test_training_moves_the_values(tmp_path: Path) -> None:
    first = shared(tiny(), tmp_path / "short", train={"steps": 1, "batch_size": 8, "learning_rate": 1e-9, "holdout": 0})
    done = shared(tiny(), tmp_path / "long", train={**TRAIN, "holdout": 0})

    weights = [one.network.get_parameter("down.0.weight").detach() for one in (first, done)]
    assert not torch.allclose(*weights, atol=1e-4)
    assert done.lineage[-1]["steps"] == 6 and done.lineage[-1]["bits"] == 3
    assert 0 < done.lineage[-1]["estimated_bytes"] <= done.lineage[-1]["weights"] * 3 / 8


def test_qat_moves_no_shared_weight(tmp_path: Path) -> None:
    model = shared(tiny(), tmp_path)
    before = {name: model.network.get_parameter(name).detach().clone() for name in SHARED}

    done = quantized(model, tmp_path / "qat", mode="qat", train=TRAIN)

    assert all(torch.equal(done.network.get_parameter(name), value) for name, value in before.items())
    assert all(len(np.unique(one)) <= 8 for one in codes(done).values())


def test_zeros_of_an_earlier_step_stay_zero(tmp_path: Path) -> None:
    pruned = PruneMagnitude.model_validate({"sparsity": 0.6, "train": TRAIN}).apply(tiny(), context(tiny(), tmp_path))
    (tmp_path / "checkpoint.pt").unlink(missing_ok=True)
    zeros = pruned.lineage[-1]["zeros"]

    done = shared(pruned, tmp_path / "shared", bits=2)
    found = codes(quantized(done, tmp_path / "qat", mode="qat", train=TRAIN))

    assert sum(int((one == 0).sum()) for one in found.values()) >= zeros
    assert all(len(np.unique(one)) <= 4 for one in found.values())


def test_channels_may_be_sorted_afterwards(tmp_path: Path) -> None:
    model = SortChannels().apply(shared(tiny(), tmp_path), context(tiny(), tmp_path))

    assert model.lineage[-1]["sorted_groups"] > 0
    assert all(len(np.unique(one)) <= 8 for one in codes(quantized(model, tmp_path)).values())


def test_weights_with_few_levels_are_left_alone(tmp_path: Path) -> None:
    few = PruneEntropy.model_validate({"sparsity": 0.3, "levels": 7, "ignore": ["down.0.weight"], "train": TRAIN})
    model = few.apply(tiny(), context(tiny(), tmp_path))
    (tmp_path / "checkpoint.pt").unlink(missing_ok=True)

    done = shared(model, tmp_path / "shared")

    assert set(done.shared) == {"down.0.weight"}
    assert done.lineage[-1]["left_alone"]["stem.0.weight"] == "an earlier step gave it few levels"


def test_a_stored_model_still_knows_what_is_shared(tmp_path: Path) -> None:
    done = shared(tiny(), tmp_path)

    save_model(done, tmp_path)

    again = load_model(seeded_network, tmp_path)
    assert again.shared == done.shared and set(again.shared) == set(SHARED)
    assert again.levels == dict.fromkeys(SHARED, 127)


def test_a_weight_that_was_moved_since_is_found_out(tmp_path: Path) -> None:
    done = shared(tiny(), tmp_path)
    with torch.no_grad():
        done.network.get_parameter("down.0.weight").add_(torch.randn(16, 8, 3, 3))

    with pytest.raises(StageError, match=r"down\.0\.weight: the weight has more than the \d+ values that it shares"):
        keep_shared(done.network, done.shared)


def test_layers_that_do_not_exist_or_leave_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"compress\.palettize\.ignore: no layer has the weight 'stem\.weight' \(did you mean 'stem\.0\.weight'"):  # fmt: skip
        shared(tiny(), tmp_path, ignore=["stem.weight"])
    with pytest.raises(RecipeError, match="no weight is left to share values"):
        shared(tiny(), tmp_path, ignore=list(SHARED))


def test_what_comes_at_the_wrong_place_is_refused_by_the_plan(tiny_project: Callable[..., Project]) -> None:
    step = '[[compress]]\nmethod = "palettize"\n'
    prune = '[[compress]]\nmethod = "prune_magnitude"\nsparsity = 0.5\n'

    with pytest.raises(RecipeError, match="put prune_magnitude before palettize"):
        make_plan(tiny_project(step + prune).folder)
    with pytest.raises(RecipeError, match=r"palettize\): bits: .*greater than or equal to 2, got 1"):
        make_plan(tiny_project(step + "bits = 1\n", name="other").folder)


@pytest.mark.slow
def test_files_of_all_formats_hold_the_few_codes(tiny_project: Callable[..., Project]) -> None:
    steps = '[[compress]]\nmethod = "palettize"\nbits = 3\n[compress.train]\nsteps = 6\nbatch_size = 8\n\n[[compress]]\nmethod = "quantize"\nmode = "ptq"\n'

    made = build_all(tiny_project(steps).folder, targets=["arm64", "intel", "x86_64"], allow_failed_checks=True)

    for bundle in made.bundles:
        taken = take_apart(bundle.path.read_bytes(), bundle.path.name)
        model = [piece for piece in taken.pieces if piece.path.startswith("model/")]
        weights = [piece for piece in model if piece.segment.kind == "i8" and len(piece.segment.shape) > 1]
        assert weights
        assert all(len(np.unique(np.frombuffer(taken.bytes_of(piece), np.int8))) <= 8 for piece in weights)
    assert all(check.passed for check in made.parity.checks)
