"""The training that methods share: it belongs to one step, whose checkpoint no other step takes for its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from network.test_train import Killed, killed_at, make_model, samples
from small_project import Recorder

from edgepack.methods.fine_tune import fine_tune
from edgepack.methods.protocol import Context
from edgepack.network.model import Model
from edgepack.network.training import Training
from edgepack.targets import load_target

TRAIN = Training(steps=4, batch_size=20, learning_rate=0.05, loss="labels", holdout=0.0)


def context(model: Model, folder: Path, *, key: str = "one step") -> Context:
    return Context(
        original=model, train=samples(labels=True), calibration=samples(), workspace=folder, key=key, seed=0,
        constraints=load_target("arm64").quantization, progress=Recorder(),
    )  # fmt: skip


def test_the_network_itself_is_trained_under_the_name_that_the_method_gives(tmp_path: Path) -> None:
    model, given = make_model(), context(make_model(), tmp_path)
    before = model.network[3].weight.detach().clone()  # type: ignore[index,union-attr]

    trained = fine_tune(model, TRAIN, given, what="Training half a network")

    assert trained.steps == 4
    assert given.progress.started == ["Training half a network"]  # type: ignore[attr-defined]
    assert not torch.equal(model.network[3].weight, before)  # type: ignore[index,union-attr]


@pytest.mark.parametrize(("key", "begins_at_step"), [("one step", 2), ("another step", 0)])
def test_a_killed_step_goes_on_from_its_own_checkpoint_only(tmp_path: Path, key: str, begins_at_step: int) -> None:
    with pytest.raises(Killed):
        fine_tune(make_model(), TRAIN, context(make_model(), tmp_path), what="x", before_step=killed_at(2))
    again = context(make_model(), tmp_path, key=key)

    fine_tune(make_model(), TRAIN, again, what="x")

    assert again.progress.advanced["x"][0] == begins_at_step  # type: ignore[attr-defined]
