"""Hidden units in another order: the same function, in an order that codes better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exporters.zoo import make
from small_project import PRUNE_AND_QAT, PTQ, Project, seeded_network
from torch import nn

from edgepack.bundle.update_base import Base
from edgepack.core.errors import RecipeError
from edgepack.core.types import Grid, Samples, Silent, TensorSpec
from edgepack.methods.protocol import Context
from edgepack.methods.prune_magnitude import PruneMagnitude
from edgepack.methods.sort_channels import SortChannels
from edgepack.network.channels.state import masks_of
from edgepack.network.model import Model, load_model, predict, save_model
from edgepack.plan import make_plan
from edgepack.stages.compress import compress
from edgepack.stages.load import load
from edgepack.store.cache import StageCache
from edgepack.targets import load_target

Make = Callable[..., Project]
SORT = '[[compress]]\nmethod = "sort_channels"\n'


def model_of(network: nn.Module, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Model:
    return Model(
        network=network.eval(),
        build=make,
        inputs=(TensorSpec(name="input", shape=(1, *shape)),),
        outputs=(TensorSpec(name="output", shape=(1, 4)),),
    )


@pytest.fixture
def tiny() -> Model:
    return model_of(seeded_network(), seeded_network, (1, 8, 8))


def context(model: Model, folder: Path, **more: Any) -> Context:
    rng = np.random.default_rng(1)
    samples = Samples(inputs={"input": rng.normal(size=(24, *model.inputs[0].shape[1:])).astype(np.float32)})
    return Context(
        original=model, train=samples, calibration=samples, constraints=load_target("arm64").quantization,
        workspace=folder, key="key", seed=0, progress=Silent(), **more,
    )  # fmt: skip


def test_outputs_stay_the_same_and_weights_move(tiny: Model, tmp_path: Path) -> None:
    about = context(tiny, tmp_path)
    wanted, before = predict(tiny, about.calibration), {k: v.clone() for k, v in tiny.network.state_dict().items()}

    done = SortChannels().apply(tiny, about)

    np.testing.assert_allclose(predict(done, about.calibration)["output"], wanted["output"], rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(value, before[name]) for name, value in done.network.state_dict().items())
    assert done.lineage[-1]["sorted_groups"] == 2
    assert done.lineage[-1]["left_alone"] == {"classifier": "classifier makes an output of the model"}


def test_like_channels_come_to_lie_side_by_side(tmp_path: Path) -> None:
    class Two(nn.Module):
        """Hidden units of two kinds, in turns: one reads the first half of the input, the other the second."""

        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = nn.Linear(16, 12), nn.Linear(12, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.hidden(x).relu())  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network = Two()
    with torch.no_grad():
        network.hidden.weight[::2, 8:] = 0
        network.hidden.weight[1::2, :8] = 0
    model = model_of(network, Two, (16,))

    done = SortChannels().apply(model, context(model, tmp_path))

    kinds = (done.network.get_parameter("hidden.weight")[:, :8] == 0).all(1).tolist()
    assert kinds in ([True] * 6 + [False] * 6, [False] * 6 + [True] * 6)


def test_what_grouped_convolutions_tie_moves_as_one(tmp_path: Path) -> None:
    model = model_of(make("grouped"), lambda: make("grouped"), (3, 16, 16))
    model = replace(model, outputs=(TensorSpec(name="output", shape=(1, 10)),))
    about = context(model, tmp_path)
    wanted, before = predict(model, about.calibration), model.network.get_parameter("grouped.0.weight").detach().clone()

    done = SortChannels().apply(model, about)

    np.testing.assert_allclose(predict(done, about.calibration)["output"], wanted["output"], rtol=1e-4, atol=1e-5)
    assert done.lineage[-1]["left_alone"] == {"linear": "linear makes an output of the model"}
    assert sorted(map(len, done.edits[-1]["channels"].values())) == [4, 4]
    assert not torch.equal(done.network.get_parameter("grouped.0.weight"), before)


def test_zeros_and_their_masks_move_together(tiny: Model, tmp_path: Path) -> None:
    prune = PruneMagnitude.model_validate({"sparsity": 0.6, "train": {"steps": 4, "batch_size": 8}})
    original = model_of(seeded_network(), seeded_network, (1, 8, 8))
    pruned = prune.apply(tiny, context(original, tmp_path))
    about = context(tiny, tmp_path)
    wanted = predict(pruned, about.calibration)
    masks = {name: mask.clone() for name, mask in masks_of(pruned.network).items()}

    done = SortChannels().apply(pruned, about)

    np.testing.assert_allclose(predict(done, about.calibration)["output"], wanted["output"], rtol=1e-4, atol=1e-5)
    moved = masks_of(done.network)
    assert {name: int(mask.sum()) for name, mask in moved.items()} == {n: int(m.sum()) for n, m in masks.items()}
    assert any(not torch.equal(mask, masks[name]) for name, mask in moved.items())


def test_what_was_moved_is_stored_with_the_model(tiny: Model, tmp_path: Path) -> None:
    done = SortChannels().apply(tiny, context(tiny, tmp_path))
    (tmp_path / "stored").mkdir()
    save_model(done, tmp_path / "stored")

    again = load_model(tiny.build, tmp_path / "stored")

    (edit,) = again.edits
    assert (edit["kind"], edit["method"]) == ("sort", "sort_channels")
    sizes = {name: sorted(order) == list(range(len(order))) for name, order in edit["channels"].items()}
    assert sizes == {"block.3": True, "down.0": True}


def test_channels_that_forward_tells_apart_are_left_alone_and_named(tmp_path: Path) -> None:
    class Weighs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 4)
            self.register_buffer("factors", torch.arange(8.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x) * self.factors)  # type: ignore[no-any-return, operator]

    torch.manual_seed(0)
    model = model_of(Weighs(), Weighs, (6,))

    done = SortChannels().apply(model, context(model, tmp_path))

    assert done.lineage[-1]["left_alone"]["first"].startswith("its channels are not interchangeable")
    assert done.edits[-1]["channels"] == {}


def test_an_ignored_layer_keeps_its_order(tiny: Model, tmp_path: Path) -> None:
    done = SortChannels(ignore=("down.0",)).apply(tiny, context(tiny, tmp_path))

    assert done.lineage[-1]["left_alone"]["down.0"] == "the recipe says so"


def test_an_ignored_layer_that_does_not_exist_is_refused(tiny: Model, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"sort_channels\.ignore: the model has no layer 'dwn\.0'.*'down\.0'"):
        SortChannels(ignore=("dwn.0",)).apply(tiny, context(tiny, tmp_path))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (SORT + PRUNE_AND_QAT, r"compress\.1: prune_magnitude comes after sort_channels.*put prune_magnitude before"),
        (PTQ + SORT, "'quantize' must be the last step"),
    ],
)
def test_it_comes_after_pruning_and_before_quantization(steps: str, message: str, tiny_project: Make) -> None:
    with pytest.raises(RecipeError, match=message):
        make_plan(tiny_project(steps).folder)


@pytest.fixture
def update(built_project: Callable[[str], Project], tmp_path: Path) -> Project:
    """A project with other weights, beside a bundle whose channels are sorted."""
    base = built_project(SORT + PTQ)
    project = base.copy(tmp_path / "update")
    (project.folder / "base.edgepack").write_bytes((base.folder / "dist" / "tiny-1.0.0-arm64.edgepack").read_bytes())
    state = project.state()
    project.write_state({name: value.flip(0) if name == "down.0.weight" else value for name, value in state.items()})
    project.recipe.write_text('update_of = "base.edgepack"\n' + project.recipe.read_text())
    return project


@pytest.mark.slow
def test_an_update_takes_the_order_of_its_base(update: Project) -> None:
    plan = make_plan(update.folder)
    cache = StageCache(plan.work_folder)

    stored = compress(replace(plan, steps=plan.steps[:1]), cache, load(plan, cache, Silent()), Silent())

    assert plan.base is not None
    (edit,) = stored.open(plan).edits
    assert edit == plan.base.edits[0]
    assert any(order != sorted(order) for order in edit["channels"].values())


@pytest.mark.slow
def test_an_update_must_order_channels_when_its_base_did(update: Project) -> None:
    update.replace(SORT, "")

    with pytest.raises(
        RecipeError, match=r"its channels were changed by sort_channels, this recipe's are changed by no step"
    ):
        make_plan(update.folder)


def test_an_update_keeps_the_order_that_its_base_has(tiny: Model, tmp_path: Path) -> None:
    edit = {"kind": "sort", "method": "sort_channels", "channels": {"down.0": [*range(15, -1, -1)]}}
    base = Base(
        path=tmp_path, sha256="0" * 64, name="tiny", version="1.0.0", target="arm64", targets=("arm64",), constraints={},
        grid=Grid(activations={}, weights={}), inputs=(), edits=(edit,),
    )  # fmt: skip
    before = tiny.network.get_parameter("down.0.weight").detach().clone()

    done = SortChannels().apply(tiny, context(tiny, tmp_path, base=base))

    assert done.edits == (edit,)
    assert done.lineage[-1]["left_alone"]["block.3"] == "the base leaves it in place"
    assert torch.equal(done.network.get_parameter("down.0.weight"), before.flip(0))
