"""Channels that go away: the network is smaller, the function nearly the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exporters.zoo import make
from small_project import PTQ, Project, seeded_network
from torch import nn
from torch.nn import functional

from edgepack.bundle.update_base import Base
from edgepack.core.errors import RecipeError
from edgepack.core.types import Grid, Samples, Silent, TensorSpec
from edgepack.exporters import EXPORTERS
from edgepack.exporters.protocol import ExportOptions
from edgepack.methods.protocol import Context
from edgepack.methods.prune_channels import PruneChannels
from edgepack.methods.quantize import Quantize
from edgepack.network.channels.work import macs_of, uses_of
from edgepack.network.model import Model, load_model, predict, save_model
from edgepack.plan import make_plan
from edgepack.runtimes import RUNTIMES
from edgepack.stages.compress import compress
from edgepack.stages.load import load
from edgepack.store.cache import StageCache
from edgepack.targets import load_target

PRUNE = '[[compress]]\nmethod = "prune_channels"\nsparsity = 0.2\nrounds = 1\n[compress.train]\nsteps = 24\nbatch_size = 8\nlearning_rate = 3e-3\n\n'


def tiny() -> Model:
    return model_of(seeded_network(), seeded_network, (1, 8, 8))


def model_of(network: nn.Module, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Model:
    return Model(
        network=network.eval(),
        build=make,
        inputs=(TensorSpec(name="input", shape=(1, *shape)),),
        outputs=(TensorSpec(name="output", shape=(1, 4)),),
    )


def context(model: Model, folder: Path) -> Context:
    rng = np.random.default_rng(1)
    samples = Samples(inputs={"input": rng.normal(size=(32, *model.inputs[0].shape[1:])).astype(np.float32)})
    return Context(
        original=model, train=samples, calibration=samples, constraints=load_target("arm64").quantization,
        workspace=folder, key="key", seed=0, progress=Silent(),
    )  # fmt: skip


def pruned(model: Model, folder: Path, **options: Any) -> Model:
    method = PruneChannels.model_validate({"sparsity": 0.5, "train": {"steps": 6, "batch_size": 8}, **options})
    return method.apply(model, context(model, folder))


@pytest.mark.parametrize("importance", ["magnitude", "taylor", "bn_scale"])
@pytest.mark.parametrize("scope", ["model", "layer"])
def test_the_share_of_multiply_accumulates_goes_away(importance: str, scope: str, tmp_path: Path) -> None:
    done = pruned(tiny(), tmp_path, importance=importance, scope=scope, rounds=2)

    facts = done.lineage[-1]
    counted = macs_of(done.network.state_dict(), uses_of(done.network, done.example()))
    assert counted == facts["after"]["macs"]
    assert 0.35 * facts["before"]["macs"] < counted <= 0.5 * facts["before"]["macs"]
    assert sum(value.numel() for value in done.network.parameters()) == facts["after"]["parameters"]
    assert done.network(torch.zeros(3, 1, 8, 8)).shape == (3, 4)


def test_parameters_can_be_what_is_counted(tmp_path: Path) -> None:
    facts = pruned(tiny(), tmp_path, of="parameters").lineage[-1]

    assert 0.35 * facts["before"]["parameters"] < facts["after"]["parameters"] <= 0.5 * facts["before"]["parameters"]


def test_layers_say_how_many_channels_they_have_left(tmp_path: Path) -> None:
    network: Any = pruned(tiny(), tmp_path).network

    width = network.stem[0].out_channels
    depthwise = network.block[0]
    assert width < 8
    assert network.stem[1].num_features == width
    assert (depthwise.groups, depthwise.in_channels, depthwise.out_channels) == (width, width, width)
    assert (network.block[3].in_channels, network.block[3].out_channels) == (width, width)  # a residual sum ties them
    assert network.down[0].in_channels == width
    assert network.classifier.in_features == network.down[0].out_channels and network.classifier.out_features == 4


def test_a_smaller_network_is_built_and_stored_like_any_other(tmp_path: Path) -> None:
    about = context(tiny(), tmp_path)
    done = pruned(tiny(), tmp_path)
    (tmp_path / "stored").mkdir()
    save_model(done, tmp_path / "stored")

    again = load_model(seeded_network, tmp_path / "stored")

    wanted = predict(done, about.calibration)["output"]
    np.testing.assert_array_equal(predict(again, about.calibration)["output"], wanted)
    assert {name: value.shape for name, value in again.build().state_dict().items()} == {
        name: value.shape for name, value in done.network.state_dict().items()
    }
    assert again.edits == done.edits


def test_channels_that_do_nothing_go_first(tmp_path: Path) -> None:
    model = tiny()
    dead = {1, 4, 5, 11}
    with torch.no_grad():
        network: Any = model.network
        for value in (network.down[0].weight, network.down[1].weight, network.down[1].bias):
            value[sorted(dead)] = 0
        network.classifier.weight[:, sorted(dead)] = 0

    done = pruned(model, tmp_path, sparsity=0.1, rounds=1)

    gone = set(range(16)) - set(done.edits[-1]["channels"]["down.0"])
    assert gone and gone <= dead


def test_channels_left_are_a_multiple_of_round_to(tmp_path: Path) -> None:
    done = pruned(tiny(), tmp_path, round_to=4, sparsity=0.4)

    assert {len(kept) % 4 for kept in done.edits[-1]["channels"].values()} == {0}


def test_a_share_of_each_layer_stays(tmp_path: Path) -> None:
    done = pruned(tiny(), tmp_path, keep_min=0.5, sparsity=0.3)

    sizes = {name: len(kept) for name, kept in done.edits[-1]["channels"].items()}
    assert min(sizes["block.3"] / 8, sizes["down.0"] / 16) >= 0.5


def test_an_ignored_layer_keeps_its_channels(tmp_path: Path) -> None:
    done = pruned(tiny(), tmp_path, ignore=["down.0"], sparsity=0.3)

    assert "down.0" not in done.edits[-1]["channels"]
    assert done.lineage[-1]["left_alone"]["down.0"] == "the recipe says so"


def test_what_forward_needs_whole_is_left_alone_and_named(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        """A shortcut that pads to a fixed width, and a view of a fixed size."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 4, 1)
            self.hidden, self.out = nn.Linear(4 * 4, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = functional.pad(x, (0, 0, 0, 0, 1, 1)) + self.outer(self.inner(x).relu())
            return self.out(self.hidden(x.view(-1, 16)).relu())  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = model_of(Fixed(), Fixed, (2, 2, 2))

    done = pruned(model, tmp_path, sparsity=0.3, keep_min=0.01)

    assert set(done.edits[-1]["channels"]) == {"inner", "hidden"}
    assert set(done.lineage[-1]["left_alone"]) == {"outer", "out"}
    assert done.network(torch.zeros(5, 2, 2, 2)).shape == (5, 4)


def grouped() -> Model:
    model = model_of(make("grouped"), lambda: make("grouped"), (3, 16, 16))
    return replace(model, outputs=(TensorSpec(name="output", shape=(1, 10)),))


def test_grouped_convolutions_get_narrower_and_their_cost_is_counted(tmp_path: Path) -> None:
    done = pruned(grouped(), tmp_path, rounds=2, keep_min=0.01, round_to=2)

    facts, network = done.lineage[-1], done.network
    counted = macs_of(done.network.state_dict(), uses_of(done.network, done.example()))
    assert counted == facts["after"]["macs"] <= 0.5 * facts["before"]["macs"]
    assert facts["left_alone"] == {"linear": "linear makes an output of the model"}
    inner: Any = network.get_submodule("grouped.0")
    multiplied: Any = network.get_submodule("multiplied.0")
    by_hand = inner.out_channels * (inner.in_channels // 4) * 9 * 16 * 16
    assert inner.weight.numel() * 16 * 16 == by_hand and inner.groups == 4
    assert min(inner.in_channels, inner.out_channels) >= 8  # with one a group it would be another kind of layer
    assert (multiplied.groups, multiplied.out_channels) == (multiplied.in_channels, 2 * multiplied.in_channels)
    assert multiplied.in_channels == inner.in_channels  # the stem's, which a residual sum ties
    assert done.build()(torch.zeros(3, 3, 16, 16)).shape == (3, 10)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["arm64", "intel", "x86_64"])
def test_narrower_grouped_convolutions_are_the_same_on_each_runtime(target: str, tmp_path: Path) -> None:
    profile, original = load_target(target), grouped()
    about = replace(context(original, tmp_path), constraints=profile.quantization)
    narrow = pruned(original, tmp_path / "pruned")

    model = Quantize(mode="ptq").apply(narrow, about)
    exporter = EXPORTERS.load(profile.exporter)(options=ExportOptions())
    made = exporter.export(model, about.calibration.take(slice(0, 1)), tmp_path, progress=Silent())

    session = RUNTIMES.load(profile.runtime)().open(made.path)
    theirs = session.run_float(dict(about.calibration.inputs))["output"]
    steps = np.abs(theirs - predict(model, about.calibration)["output"]) / session.outputs[0].quantization.step
    assert steps.max() <= 3.0 and steps.mean() <= 0.75
    (layer,) = (value for name, value in narrow.network.state_dict().items() if name == "grouped.0.weight")
    assert layer.shape[1] < 4


@pytest.mark.parametrize("sparsity", [0.0, 1.0, 1.5])
def test_a_share_that_is_none_is_refused(sparsity: float, tiny_project: Callable[..., Project]) -> None:
    project = tiny_project(PRUNE.replace("0.2", str(sparsity)))

    with pytest.raises(RecipeError, match=r"compress\.0 \(prune_channels\): sparsity: Input should be"):
        make_plan(project.folder)


def test_a_share_that_cannot_be_reached_is_refused_with_what_can(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"at most \d+% of the macs that are left can go, 90% should; lower sparsity"):
        pruned(tiny(), tmp_path, sparsity=0.9, keep_min=0.5)


def test_an_ignored_layer_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"prune_channels\.ignore: the model has no layer 'steam\.0'.*'stem\.0'"):
        pruned(tiny(), tmp_path, ignore=["steam.0"])


def test_it_comes_before_other_pruning(tiny_project: Callable[..., Project]) -> None:
    other = '[[compress]]\nmethod = "prune_magnitude"\nsparsity = 0.5\n'

    with pytest.raises(RecipeError, match=r"compress\.1: prune_channels comes after prune_magnitude"):
        make_plan(tiny_project(other + PRUNE).folder)


@pytest.mark.slow
def test_an_update_has_the_channels_and_the_grid_of_its_base(
    built_project: Callable[[str], Project], tmp_path: Path
) -> None:
    base = built_project(PRUNE + PTQ)
    project = base.copy(tmp_path / "update")
    (project.folder / "base.edgepack").write_bytes((base.folder / "dist" / "tiny-1.0.0-arm64.edgepack").read_bytes())
    state = project.state()
    project.write_state({name: value.flip(0) if name == "down.0.weight" else value for name, value in state.items()})
    project.recipe.write_text('update_of = "base.edgepack"\n' + project.recipe.read_text())
    plan = make_plan(project.folder)
    cache = StageCache(plan.work_folder)

    model = compress(plan, cache, load(plan, cache, Silent()), Silent()).open(plan)

    assert plan.base is not None and plan.base.edits[0]["channels"] == model.edits[0]["channels"]
    assert model.pinned == plan.base.grid


def test_an_update_removes_the_channels_that_its_base_removed(tmp_path: Path) -> None:
    first = pruned(tiny(), tmp_path)
    base = Base(
        path=tmp_path, sha256="0" * 64, name="tiny", version="1.0.0", target="arm64", targets=("arm64",), constraints={},
        grid=Grid(activations={}, weights={}), inputs=(), edits=first.edits,
    )  # fmt: skip
    other = tiny()
    with torch.no_grad():
        for value in other.network.parameters():
            value.copy_(value.flip(0))
    method = PruneChannels.model_validate({"sparsity": 0.5, "train": {"steps": 6, "batch_size": 8}})

    second = method.apply(other, replace(context(other, tmp_path / "other"), base=base))

    assert second.edits == first.edits
    assert second.lineage[-1]["after"] == first.lineage[-1]["after"]
