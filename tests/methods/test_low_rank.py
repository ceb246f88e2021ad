"""Layers that become products: smaller, named where they stay, rebuilt from what is stored, and what may come before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.test_prune_channels import context, model_of, tiny
from small_project import PTQ, Project, seeded_network
from torch import nn

from edgepack.bundle.update_base import Base
from edgepack.core.errors import RecipeError
from edgepack.core.types import Grid
from edgepack.methods.low_rank import LowRank
from edgepack.methods.prune_channels import PruneChannels
from edgepack.methods.quantize import Quantize
from edgepack.network.channels.work import macs_of, uses_of
from edgepack.network.model import Model, load_model, predict, save_model
from edgepack.pipeline import build
from edgepack.plan import make_plan

LOW_RANK = '[[compress]]\nmethod = "low_rank"\nkeep = 0.7\n[compress.train]\nsteps = 12\nbatch_size = 8\nlearning_rate = 3e-3\n\n'
PRUNE = '[[compress]]\nmethod = "prune_channels"\nsparsity = 0.2\nrounds = 1\n[compress.train]\nsteps = 12\nbatch_size = 8\nlearning_rate = 3e-3\n\n'
TRAIN = {"steps": 6, "batch_size": 8}


def made(model: Model, folder: Path, **options: Any) -> Model:
    folder.mkdir(exist_ok=True)
    method = LowRank.model_validate({"keep": 0.7, "train": TRAIN, **options})
    return method.apply(model, context(model, folder))


class Mixed(nn.Module):
    """Layers of all kinds, some of which can't be products."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.grouped = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.point, self.looked_at = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.tied, self.also_tied = nn.Linear(16, 16), nn.Linear(16, 16)
        self.also_tied.weight = self.tied.weight
        self.never, self.last = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.point(torch.relu(self.grouped(torch.relu(self.wide(x)))))
        x = self.looked_at(x) / self.looked_at.weight.norm()
        result: torch.Tensor = self.last(self.also_tied(torch.relu(self.tied(x.mean((2, 3))))))
        return result


def mixed() -> Mixed:
    torch.manual_seed(0)
    return Mixed()


@pytest.mark.parametrize("of", ["macs", "parameters"])
def test_the_share_that_is_asked_for_is_left(of: str, tmp_path: Path) -> None:
    done = made(tiny(), tmp_path, of=of)

    facts = done.lineage[-1]
    assert 0.55 * facts["before"][of] < facts["after"][of] <= 0.7 * facts["before"][of]
    assert macs_of(done.network.state_dict(), uses_of(done.network, done.example())) == facts["after"]["macs"]
    assert sum(value.numel() for value in done.network.parameters()) == facts["after"]["parameters"]
    assert done.network(torch.zeros(3, 1, 8, 8)).shape == (3, 4)


def test_more_energy_gives_higher_ranks(tmp_path: Path) -> None:
    low = made(tiny(), tmp_path / "low", keep=None, energy=0.5).lineage[-1]
    high = made(tiny(), tmp_path / "high", keep=None, energy=0.8).lineage[-1]

    assert low["after"]["macs"] < high["after"]["macs"] < high["before"]["macs"]
    assert (low["energy"], high["energy"]) == (0.5, 0.8)


def test_a_layer_gets_the_rank_that_it_is_given(tmp_path: Path) -> None:
    done = made(tiny(), tmp_path, keep=None, ranks={"classifier": 2, "down.0": 5})

    network: Any = done.network
    assert network.classifier[0].weight.shape == (2, 16) and network.classifier[1].weight.shape == (4, 2)
    assert [part.weight.shape[0] for part in network.down[0]] == [5, 5, 16]
    assert done.lineage[-1]["ranks"] == {"classifier": [2], "down.0": [5, 5]}
    assert isinstance(network.stem[0], nn.Conv2d)


def test_layers_that_can_be_no_product_stay_and_are_named(tmp_path: Path) -> None:
    facts = made(model_of(mixed(), mixed, (1, 6, 6)), tmp_path, keep=None, energy=0.6).lineage[-1]

    left = facts["left_alone"]
    assert left["grouped"] == "it divides its channels in groups"
    assert left["tied"] == left["also_tied"] == "several places share its weight"
    assert left["never"] == "forward doesn't call it"
    assert left["looked_at"].startswith("forward needs the layer itself")
    assert set(facts["ranks"]) | set(left) == {"wide", "grouped", "point", "looked_at", "tied", "also_tied", "never", "last"}  # fmt: skip
    assert "point" in facts["ranks"]


def test_a_layer_whose_factors_would_not_be_smaller_stays(tmp_path: Path) -> None:
    facts = made(tiny(), tmp_path, keep=None, energy=0.9).lineage[-1]

    assert facts["left_alone"]["block.3"] == "its factors would not be smaller"


def test_layers_can_be_named_or_left_out(tmp_path: Path) -> None:
    only = made(tiny(), tmp_path / "only", keep=None, energy=0.5, layers=["classifier"]).lineage[-1]
    without = made(tiny(), tmp_path / "without", keep=None, energy=0.5, ignore=["classifier"]).lineage[-1]

    assert set(only["ranks"]) == {"classifier"} and only["left_alone"]["down.0"] == "the recipe says so"
    assert "classifier" not in without["ranks"] and "down.0" in without["ranks"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ignore": ["clasifier"]}, r"compress\.low_rank\.ignore: .*no convolution or linear layer 'clasifier' \(did you mean 'classifier'"),
        ({"layers": ["stem.1"]}, r"compress\.low_rank\.layers: .*'stem\.1'"),
        ({"keep": None, "ranks": {"classifier": 5}}, r"compress\.low_rank\.ranks: 'classifier' has 16 inputs and 4 outputs: its rank can't be 5; give at most 4"),
        ({"keep": None, "ranks": {"block.0": 1}}, r"compress\.low_rank\.ranks: 'block\.0' can't become a product: it divides its channels in groups"),
        ({"keep": None, "ranks": {"classifier": 4}}, "no layer would get smaller at these ranks; give lower ones"),
        ({"keep": None, "energy": 0.99999}, r"no layer would get smaller at an energy of 0\.99999; lower it"),
        ({"keep": 0.05}, r"compress\.low_rank\.keep: at the lowest ranks 2\d\.\d% of the macs are left, 5\.0% should; raise keep"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_before_any_training(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        made(tiny(), tmp_path, **options)

    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("energy = 1.1", r"compress\.0 \(low_rank\): energy: .*less than 1, got 1\.1"),
        ("ranks = { classifier = 0 }", r"compress\.0 \(low_rank\): ranks\.classifier: .*greater than or equal to 1, got 0"),
        ("keep = 0.0", r"compress\.0 \(low_rank\): keep: .*greater than 0"),
        ("", r"give one of 'energy', 'keep' and 'ranks', not none"),
        ("keep = 0.5\nenergy = 0.9", r"give one of 'energy', 'keep' and 'ranks', not 'energy' and 'keep'"),
        ('ranks = { classifier = 2 }\nignore = ["stem.0"]', r"'ranks' names the layers itself"),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused_by_the_plan(
    options: str, message: str, tiny_project: Callable[..., Project]
) -> None:
    project = tiny_project(f'[[compress]]\nmethod = "low_rank"\n{options}\n')

    with pytest.raises(RecipeError, match=message):
        make_plan(project.folder)


def test_channels_go_before_layers_become_products(tiny_project: Callable[..., Project]) -> None:
    with pytest.raises(RecipeError, match=r"prune_channels comes after low_rank.*; put prune_channels before low_rank"):
        make_plan(tiny_project(LOW_RANK + PRUNE).folder)
    with pytest.raises(RecipeError, match="'quantize' must be the last step"):
        make_plan(tiny_project(PTQ + LOW_RANK, name="other").folder)


def test_a_stored_model_is_rebuilt_with_its_factors_and_its_fewer_channels(tmp_path: Path) -> None:
    narrow = PruneChannels.model_validate({"sparsity": 0.3, "rounds": 1, "train": TRAIN})
    model = narrow.apply(tiny(), context(tiny(), tmp_path))
    (tmp_path / "checkpoint.pt").unlink(missing_ok=True)
    done = made(model, tmp_path / "factors", keep=0.8)

    save_model(done, tmp_path)
    again = load_model(seeded_network, tmp_path)

    samples = context(tiny(), tmp_path).calibration
    assert (predict(again, samples)["output"] == predict(done, samples)["output"]).all()
    assert again.factors == done.factors and again.factors
    assert {n: v.shape for n, v in again.build().state_dict().items()} == {
        n: v.shape for n, v in done.network.state_dict().items()
    }
    network: Any = again.network
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1:
            assert (layer.out_channels, layer.in_channels) == layer.weight.shape[:2]


def test_a_factor_is_not_made_a_product_again(tmp_path: Path) -> None:
    once = made(tiny(), tmp_path / "once", keep=None, ranks={"down.0": 6})

    twice = made(once, tmp_path / "twice", keep=None, energy=0.3)

    assert twice.lineage[-1]["left_alone"]["down.0.1"] == "it is a factor already"
    assert twice.factors["down.0"] == (6, 6) and "classifier" in twice.factors
    assert twice.network.state_dict().keys() == twice.build().state_dict().keys()


def test_an_update_takes_the_ranks_of_its_base(tmp_path: Path) -> None:
    first = made(tiny(), tmp_path / "first", keep=0.6)
    base = Base(path=tmp_path / "x", sha256="", name="a", version="1", target="arm64", targets=("arm64",), constraints={},
                grid=Grid(activations={}, weights={}), inputs=(), edits=first.edits)  # fmt: skip
    (tmp_path / "second").mkdir()

    method = LowRank.model_validate({"keep": 0.9, "train": TRAIN})
    second = method.apply(tiny(), replace(context(tiny(), tmp_path / "second"), base=base))

    assert second.factors == first.factors


def test_quantization_follows(tmp_path: Path) -> None:
    done = made(tiny(), tmp_path)

    quantized = Quantize.model_validate({"mode": "ptq"}).apply(done, context(done, tmp_path))

    samples = context(tiny(), tmp_path).calibration
    ours, theirs = predict(quantized, samples)["output"], predict(made(tiny(), tmp_path), samples)["output"]
    assert abs(ours - theirs).max() < 0.2 * abs(theirs).max()


@pytest.mark.slow
def test_a_released_model_with_factors_can_be_updated(tiny_project: Callable[..., Project]) -> None:
    project = tiny_project(LOW_RANK + PTQ)
    released = build(project.folder)
    update = tiny_project(LOW_RANK + PTQ, name="update")
    update.replace("targets =", f'update_of = "{released.path}"\ntargets =')

    bundle = build(update.folder)

    steps: Any = bundle.variant().lineage["compression"]
    assert steps[0]["ranks"] == released.variant().lineage["compression"][0]["ranks"]  # type: ignore[index, call-overload]
