"""prune_entropy: the sparsity or the bytes asked for, few levels, weights that come back, and all of it kept by what follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network.test_grid import model_of
from pydantic import ValidationError
from small_project import Project
from torch import nn

from edgepack.codec.pieces import take_apart
from edgepack.core.errors import RecipeError, StageError, UnsupportedError
from edgepack.core.types import Samples, Silent
from edgepack.methods.protocol import Context
from edgepack.methods.prune_entropy import PruneEntropy, _Pruning
from edgepack.methods.prune_magnitude import PruneMagnitude
from edgepack.methods.quantize import Quantize
from edgepack.methods.sort_channels import SortChannels
from edgepack.network.coding_cost import bits_to_keep, description_bits
from edgepack.network.few_levels import latent
from edgepack.network.grid import baked_state, read_grid, trace
from edgepack.network.keep_levels import keep_levels, step_of
from edgepack.network.model import Model, load_model, save_model
from edgepack.network.training import Training
from edgepack.pipeline import build_all
from edgepack.targets import load_target

WEIGHTS = ("first.weight", "last.weight")
TRAIN = Training(steps=40, batch_size=16, learning_rate=3e-3)


class Small(nn.Module):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 24), nn.Linear(24, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(torch.relu(self.first(x.flatten(1))))
        return result


def small_model() -> Model:
    return model_of(Small, (1, 8, 8))


def samples(count: int = 96) -> Samples:
    """Images with something in the middle only: a border that no weight is needed for."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, 1, 8, 8), np.float32)
    images[:, :, 2:6, 2:6] = rng.normal(size=(count, 1, 4, 4))
    return Samples(inputs={"x": images}, labels=rng.integers(0, 4, count))


def context(model: Model, folder: Path, **changes: Any) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {
        "original": model, "train": samples(), "calibration": samples(8), "workspace": folder, "key": "k", "seed": 0,
        "constraints": load_target("arm64").quantization, "progress": Silent(),
    }  # fmt: skip
    return Context(**{**given, **changes})


def pruned(folder: Path, **options: Any) -> Model:
    given = {"sparsity": 0.8, "levels": 3, "update_every": 4, "train": TRAIN, **options}
    return PruneEntropy(**given).apply(small_model(), context(small_model(), folder / "prune"))


def weights_of(model: Model) -> dict[str, torch.Tensor]:
    return {name: model.network.get_parameter(name).detach() for name in WEIGHTS}


def codes_of(model: Model) -> dict[str, torch.Tensor]:
    """The int8 codes that a file would hold."""
    ops = trace(model.build().eval(), model.example())
    state, grid = baked_state(model.network, ops), read_grid(model.network, ops)
    scales = {name: torch.tensor(grid.weights[name].scale).reshape(-1, 1) for name in WEIGHTS}
    return {name: (state[name] / scales[name]).round() for name in WEIGHTS}


def test_the_sparsity_asked_for_is_reached_over_all_layers_together(tmp_path: Path) -> None:
    model = pruned(tmp_path, sparsity=0.8)

    zeros = sum(int((w == 0).sum()) for w in weights_of(model).values())
    facts = model.lineage[-1]
    assert zeros == facts["zeros"]
    assert zeros >= 0.8 * facts["weights"] - 1
    assert facts["weights"] == 64 * 24 + 24 * 4


def test_weights_lie_on_few_levels_of_one_step(tmp_path: Path) -> None:
    model = pruned(tmp_path, levels=3)

    assert dict(model.levels) == dict.fromkeys(WEIGHTS, 3)
    for weight in weights_of(model).values():
        step = step_of(weight, 3, axis=0)
        assert step is not None
        assert step.numel() == 1
        assert (weight / step).abs().max() <= 3.01
        assert weight.unique().numel() > 3


def test_each_output_channel_has_a_step_of_its_own_if_asked(tmp_path: Path) -> None:
    model = pruned(tmp_path, levels=7, levels_per="channel", sparsity=0.5)

    step = step_of(weights_of(model)["first.weight"], 7, axis=0)

    assert step is not None
    assert step.shape == (24, 1)


def test_without_levels_weights_stay_fine(tmp_path: Path) -> None:
    model = pruned(tmp_path, levels=None)

    assert not model.levels
    assert weights_of(model)["first.weight"].unique().numel() > 100
    assert "estimated_bytes" not in model.lineage[-1]


@pytest.mark.parametrize(("option", "bits"), [({"max_bytes": 120}, 960), ({"max_bits_per_weight": 0.5}, 816)])
def test_a_budget_of_bits_is_used_and_kept_by_the_estimate(tmp_path: Path, option: dict[str, Any], bits: int) -> None:
    model = pruned(tmp_path, sparsity=None, **option)

    assert bits * 0.4 < model.lineage[-1]["estimated_bytes"] * 8 <= bits * 1.1


def test_weights_that_no_gradient_reaches_go_first(tmp_path: Path) -> None:
    model = pruned(tmp_path, sparsity=0.6)

    border = torch.ones(8, 8, dtype=torch.bool)
    border[2:6, 2:6] = False
    assert not weights_of(model)["first.weight"].reshape(24, 8, 8)[:, border].any()


def test_a_removed_weight_comes_back_when_it_is_worth_more(tmp_path: Path) -> None:
    model = small_model()
    work = _Pruning.begin(PruneEntropy(sparsity=0.5), model, dict.fromkeys(WEIGHTS, 0))
    layer, weight = work.layers["first.weight"], latent(model.network, "first.weight")
    with torch.no_grad():
        weight[5, 7] = 1e-6
    work._choose(left=0.0)
    assert not layer.mask[5, 7]

    with torch.no_grad():
        weight[5, 7] = 3.0
    work._choose(left=0.0)

    assert layer.mask[5, 7]


def test_the_coding_cost_gathers_weights_in_rows_and_columns() -> None:
    scattered = torch.zeros(40, 40, dtype=torch.bool)
    scattered[torch.arange(40), torch.arange(40)] = True
    gathered = torch.zeros(40, 40, dtype=torch.bool)
    gathered[:4, :10] = True

    assert description_bits(gathered.float(), 0) < 0.5 * description_bits(scattered.float(), 0)
    cost = bits_to_keep(gathered, 0, value_bits=2.0)
    assert cost[0, 0] < cost[0, 20] < cost[20, 20]


def test_pruning_by_cost_codes_smaller_than_by_fisher_information_alone(tmp_path: Path) -> None:
    aware = pruned(tmp_path / "a", sparsity=0.85).lineage[-1]["estimated_bytes"]
    blind = pruned(tmp_path / "b", sparsity=0.85, coding_cost=False).lineage[-1]["estimated_bytes"]

    assert aware < blind


def test_zeros_and_levels_survive_quantization_aware_training(tmp_path: Path) -> None:
    model = pruned(tmp_path, levels=3)
    before = weights_of(model)

    ready = Quantize(mode="qat", train=TRAIN).apply(model, context(small_model(), tmp_path / "qat"))

    codes = codes_of(ready)
    for name, weight in before.items():
        assert not codes[name][weight == 0].any()
        assert codes[name].abs().max() <= 3
        assert not torch.equal(ready.network.get_parameter(name), weight)  # it did train
    assert all(len(set(params.scale)) == 1 for params in _grid_of(ready).values())


def test_post_training_quantization_leaves_the_codes_as_they_are(tmp_path: Path) -> None:
    model = pruned(tmp_path, levels=7, levels_per="channel")
    before = weights_of(model)

    ready = Quantize(mode="ptq").apply(model, context(small_model(), tmp_path / "ptq"))

    for name, codes in codes_of(ready).items():
        scale = torch.tensor(_grid_of(ready)[name].scale).reshape(-1, 1)
        torch.testing.assert_close(codes * scale, before[name])
        assert codes.abs().max() <= 7


def test_what_an_earlier_step_removed_stays_removed(tmp_path: Path) -> None:
    first = PruneMagnitude(sparsity=0.5, train=TRAIN).apply(small_model(), context(small_model(), tmp_path / "first"))
    state = baked_state(first.network, trace(first.build().eval(), first.example()))

    options = PruneEntropy(sparsity=0.8, update_every=4, train=TRAIN)
    model = options.apply(first, context(small_model(), tmp_path / "second"))

    for name, weight in weights_of(model).items():
        assert not weight[state[name] == 0].any()


def test_biases_get_few_levels_too_if_asked_and_keep_them_through_training(tmp_path: Path) -> None:
    model = pruned(tmp_path, levels=3, bias_levels=7)
    biases = {name: model.network.get_parameter(name).detach().clone() for name in ("first.bias", "last.bias")}

    ready = Quantize(mode="qat", train=TRAIN).apply(model, context(small_model(), tmp_path / "qat"))

    assert dict(model.levels) == {**dict.fromkeys(WEIGHTS, 3), **dict.fromkeys(biases, 7)}
    for name, values in biases.items():
        assert step_of(values, 7, axis=0) is not None
        after = ready.network.get_parameter(name).detach()
        torch.testing.assert_close(after, values, atol=2e-3, rtol=0)  # moved onto the int32 grid, no further
        assert after.unique().numel() <= 15


def test_sorted_channels_keep_levels_and_zeros(tmp_path: Path) -> None:
    model = pruned(tmp_path, levels=3)
    ordered = SortChannels().apply(model, context(small_model(), tmp_path / "sort"))

    ready = Quantize(mode="ptq").apply(ordered, context(small_model(), tmp_path / "ptq"))

    assert all(codes.abs().max() <= 3 for codes in codes_of(ready).values())


def test_levels_survive_a_round_through_a_folder(tmp_path: Path) -> None:
    model = pruned(tmp_path, levels=3)
    (folder := tmp_path / "saved").mkdir()
    save_model(model, folder)

    assert dict(load_model(model.build, folder).levels) == dict.fromkeys(WEIGHTS, 3)


def test_a_killed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    class Killer(Silent):
        steps = 0

        def advance(self, units: int = 1, *, note: str = "") -> None:
            self.steps += 1
            if self.steps == 36:  # after weights are rounded and masks are settled, behind the epoch's end at step 30
                raise KeyboardInterrupt

    options = PruneEntropy(sparsity=0.8, levels=3, update_every=4, train=TRAIN)
    whole = options.apply(small_model(), context(small_model(), tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        options.apply(small_model(), context(small_model(), tmp_path / "killed", progress=Killer()))

    resumed = options.apply(small_model(), context(small_model(), tmp_path / "killed"))

    for name, weight in weights_of(whole).items():
        assert torch.equal(weights_of(resumed)[name], weight)


def test_an_ignored_layer_keeps_all_its_weights(tmp_path: Path) -> None:
    model = pruned(tmp_path, ignore=("last.weight",))

    assert (weights_of(model)["last.weight"] != 0).all()
    assert set(model.levels) == {"first.weight"}


def test_an_ignored_layer_that_does_not_exist_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"prune_entropy\.ignore: .*'last\.wieght' \(did you mean 'last\.weight'\?\)"):
        pruned(tmp_path, ignore=("last.wieght",))


def test_ignoring_every_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no weight is left to prune"):
        pruned(tmp_path, ignore=WEIGHTS)


def test_a_weight_that_two_layers_share_is_refused(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)
            self.last.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.last(torch.relu(self.first(x.flatten(1))))
            return result

    model = model_of(Tied, (1, 8, 8))

    with pytest.raises(UnsupportedError, match=r"first\.weight and last\.weight are one weight"):
        PruneEntropy(sparsity=0.5, train=TRAIN).apply(model, context(model, tmp_path))


def test_a_budget_that_holds_no_weight_of_each_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"1 B can't hold one weight of each of the 2 layers; give at least 3 bytes"):
        pruned(tmp_path, sparsity=None, max_bytes=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "not none"),
        ({"sparsity": 0.5, "max_bytes": 100}, "'sparsity' and 'max_bytes'"),
        ({"sparsity": 1.0}, "less than 1"),
        ({"sparsity": 0.5, "levels": 5}, "1, 3, 7 or 15"),
        ({"sparsity": 0.5, "bias_levels": 2}, "1, 3, 7 or 15"),
        ({"sparsity": 0.5, "regrow_until": 0.5}, "must not lie before the end of 'ramp'"),
        ({"max_bits_per_weight": 0}, "greater than 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        PruneEntropy(**options)


@pytest.mark.parametrize("levels", [1, 3, 7])
def test_the_step_is_found_in_the_values(levels: int) -> None:
    codes = torch.tensor([[0, levels, -1], [1, -levels, 0]]).float()

    assert step_of(codes * 0.0371, levels, axis=0) == pytest.approx(torch.tensor([[0.0371]]))
    each = step_of(codes * torch.tensor([[0.0371], [0.11]]), levels, axis=0)
    assert each is not None
    assert each.flatten().tolist() == pytest.approx([0.0371, 0.11])
    assert step_of(torch.tensor([[1.0, 0.77], [0.5, 0.31]]), levels, axis=0) is None


def test_a_weight_that_was_moved_off_its_levels_is_named(tmp_path: Path) -> None:
    model = small_model()
    ops = trace(model.build().eval(), model.example())

    with pytest.raises(StageError, match=r"first\.weight: the weight no longer lies on 7 levels"):
        keep_levels(Quantize(mode="ptq")._post_training(model, context(model, tmp_path)), ops, {"first.weight": 3})


def _grid_of(model: Model) -> dict[str, Any]:
    return read_grid(model.network, trace(model.build().eval(), model.example())).weights


@pytest.mark.slow
def test_files_of_all_formats_hold_the_few_levels(tiny_project: Callable[..., Project]) -> None:
    steps = """
[[compress]]
method = "prune_entropy"
sparsity = 0.5
levels = 7
levels_per = "channel"
train = { steps = 16, batch_size = 8, learning_rate = 1e-3 }

[[compress]]
method = "quantize"
mode = "qat"
train = { steps = 8, batch_size = 8, learning_rate = 1e-3 }
"""
    made = build_all(tiny_project(steps).folder, targets=["arm64", "intel", "x86_64"], allow_failed_checks=True)

    files = []
    for bundle in made.bundles:
        taken = take_apart(bundle.path.read_bytes(), bundle.path.name)
        model = [piece for piece in taken.pieces if piece.path.startswith("model/")]
        weights = [piece for piece in model if piece.segment.kind == "i8" and len(piece.segment.shape) > 1]
        codes = [np.frombuffer(taken.bytes_of(piece), np.int8) for piece in weights]
        assert max(int(np.abs(one.astype(int)).max()) for one in codes) <= 7
        files.append(sum(int((one == 0).sum()) for one in codes) / sum(one.size for one in codes))
    assert len(files) == 3
    assert min(files) > 0.45
    assert all(check.passed for check in made.parity.checks)
