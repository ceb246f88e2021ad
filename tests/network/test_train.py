"""Training: the same bytes whether it was killed or not, the best checkpoint, an early stop, a schedule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_project import Recorder
from torch import nn

from edgepack.core.errors import DataError, StageError
from edgepack.core.types import Samples, Silent
from edgepack.network.model import Model, float_network
from edgepack.network.train import Trainer, _schedule_factor
from edgepack.network.training import Training
from network.test_grid import model_of


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def make_model() -> Model:
    return model_of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)), (1, 4, 4))


def make_teacher(model: Model) -> nn.Module:
    teacher = float_network(model)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter += 0.3
    return teacher


def samples(*, labels: bool = False) -> Samples:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 1, 4, 4)).astype(np.float32)
    return Samples(inputs={"x": x}, labels=rng.integers(0, 3, 40) if labels else None)


def trainer(
    folder: Path, *, key: str = "k", before: Callable[[int, int], None] | None = None, **options: Any
) -> Trainer:
    model = make_model()
    teacher = make_teacher(model)
    given = Training(**{"steps": 10, "batch_size": 6, "learning_rate": 0.01, "augment": ("shift", "hflip"), **options})
    return Trainer(
        model, teacher, samples(labels=options.get("loss") == "labels"), given, checkpoint=folder / "checkpoint.pt",
        key=key, seed=3, before_step=before,
    )  # fmt: skip


def state_of(one: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in one.model.network.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def killed_at(step: int) -> Callable[[int, int], None]:
    def stop(now: int, _total: int) -> None:
        if now == step:
            raise Killed

    return stop


def test_a_killed_training_with_channels_last_ends_in_the_same_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepack.network.train._CHECKPOINT_EVERY_S", 0.0)

    def convolving(folder: Path, before: Callable[[int, int], None] | None = None) -> Trainer:
        model = model_of(
            lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 2), nn.Flatten()), (1, 4, 4)
        )
        given = Training(steps=8, batch_size=8, learning_rate=0.01)
        return Trainer(
            model, make_teacher(model), samples(), given, checkpoint=folder / "checkpoint.pt", key="k", seed=3,
            before_step=before, learns_norms=True,
        )  # fmt: skip

    whole = convolving(tmp_path / "whole")
    whole.run(Silent(), what="x")
    assert whole.layout is torch.channels_last
    with pytest.raises(Killed):
        convolving(tmp_path, killed_at(5)).run(Silent(), what="x")
    resumed = convolving(tmp_path)
    resumed.run(Silent(), what="x")

    assert same(state_of(resumed), state_of(whole))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("step", [1, 4, 7, 9])
def test_a_killed_and_resumed_training_ends_in_the_same_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, optimizer: str
) -> None:
    monkeypatch.setattr("edgepack.network.train._CHECKPOINT_EVERY_S", 0.0)
    whole = trainer(tmp_path / "whole", optimizer=optimizer, weight_decay=0.01)
    expected = whole.run(Silent(), what="x")
    with pytest.raises(Killed):
        trainer(tmp_path, before=killed_at(step), optimizer=optimizer, weight_decay=0.01).run(Silent(), what="x")

    resumed = trainer(tmp_path, optimizer=optimizer, weight_decay=0.01)
    progress = Recorder()
    outcome = resumed.run(progress, what="x")

    assert outcome == expected
    assert same(state_of(resumed), state_of(whole))
    assert progress.advanced["x"] == [step] + [1] * (10 - step)


def test_a_checkpoint_of_another_training_is_not_resumed(tmp_path: Path) -> None:
    trainer(tmp_path, key="one").run(Silent(), what="x")

    progress = Recorder()
    trainer(tmp_path, key="two").run(progress, what="x")

    assert progress.advanced["x"][0] == 0


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_starts_anew_with_a_note(tmp_path: Path, content: bytes) -> None:
    whole = trainer(tmp_path / "whole")
    whole.run(Silent(), what="x")
    (tmp_path / "checkpoint.pt").write_bytes(content)
    progress = Recorder()

    other = trainer(tmp_path)
    other.run(progress, what="x")

    assert same(state_of(other), state_of(whole))
    assert "damaged checkpoint" in progress.notes[0]


def test_training_approaches_its_teacher(tmp_path: Path) -> None:
    outcome = trainer(tmp_path, steps=60, augment=()).run(Silent(), what="x")

    assert outcome.best_loss < 0.5 * outcome.first_loss
    assert outcome.steps == 60


def test_the_best_checkpoint_is_kept_not_the_last(tmp_path: Path) -> None:
    """With a learning rate that destroys, the values before the first step are the best."""
    one = trainer(tmp_path, learning_rate=5.0, schedule="constant", steps=12)
    before = state_of(one)

    outcome = one.run(Silent(), what="x")

    assert outcome.best_step == 0
    assert same(state_of(one), before)


def test_without_a_holdout_the_last_values_are_kept(tmp_path: Path) -> None:
    one = trainer(tmp_path, holdout=0.0)

    outcome = one.run(Silent(), what="x")

    assert (outcome.best_step, outcome.best_loss) == (0, math.inf)
    assert not same(state_of(one), state_of(trainer(tmp_path / "other")))


def test_patience_stops_a_training_that_gains_nothing(tmp_path: Path) -> None:
    options: dict[str, Any] = {"learning_rate": 5.0, "schedule": "constant"}

    outcome = trainer(tmp_path, **options, steps=None, epochs=50, patience=2).run(Silent(), what="x")

    assert outcome.stopped_early
    assert outcome.steps == 2 * 6  # 36 samples in batches of 6, two epochs without a gain


def test_a_loss_that_is_not_finite_is_told(tmp_path: Path) -> None:
    one = trainer(tmp_path, optimizer="sgd", learning_rate=1e30, schedule="constant", loss="mse")

    with pytest.raises(StageError, match=r"the loss became (nan|inf) at step \d+; lower learning_rate \(now 1e\+30\)"):
        one.run(Silent(), what="x")


def test_training_on_labels_needs_labels(tmp_path: Path) -> None:
    model = make_model()

    with pytest.raises(DataError, match="needs labelled training samples"):
        Trainer(
            model, float_network(model), samples(), Training(steps=1, loss="labels"),
            checkpoint=tmp_path / "c.pt", key="k", seed=0,
        )  # fmt: skip
    assert trainer(tmp_path, loss="labels").run(Silent(), what="x").steps == 10


def test_held_out_samples_are_never_trained_on(tmp_path: Path) -> None:
    one = trainer(tmp_path, holdout=0.25)

    held = set(one.held_out.tolist())
    seen = {sample.tobytes() for step in range(one.steps_per_epoch) for sample in one._batch(step).inputs["x"]}

    assert len(held) == 10
    assert not seen & {one.samples.inputs["x"][position].tobytes() for position in held}


def test_an_epoch_sees_every_sample_once(tmp_path: Path) -> None:
    one = trainer(tmp_path)

    seen = [x.tobytes() for step in range(one.steps_per_epoch) for x in one._batch(step).inputs["x"]]

    assert len(seen) == len(set(seen)) == 36
    assert [x.tobytes() for x in one._batch(0).inputs["x"]] != [x.tobytes() for x in one._batch(6).inputs["x"]]


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    options = Training(steps=12, warmup_steps=2)

    factors = [_schedule_factor(options, step, 12) for step in range(12)]

    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[7] == pytest.approx(0.5)
    assert all(a >= b for a, b in itertools.pairwise(factors[2:]))
    constant = Training(steps=12, schedule="constant")
    assert {_schedule_factor(constant, step, 12) for step in range(12)} == {1.0}


def test_the_teacher_does_not_change(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    before = {name: value.clone() for name, value in one.teacher.state_dict().items()}

    one.run(Silent(), what="x")

    assert same(before, dict(one.teacher.state_dict()))


def test_images_are_shifted_no_further_than_asked(tmp_path: Path) -> None:
    from edgepack.network.augment import _augmented_images

    images = torch.zeros(64, 1, 28, 28)
    images[:, :, 14, 14] = 1.0

    near = _augmented_images(
        images, Training(steps=1, augment=("shift",), shift_pixels=1), np.random.default_rng(0)
    ).nonzero()[:, 2:]
    far = _augmented_images(images, Training(steps=1, augment=("shift",)), np.random.default_rng(0)).nonzero()[:, 2:]

    assert (near.min(), near.max()) == (13, 15)
    assert (far.min(), far.max()) == (12, 16)


def test_a_last_batch_of_one_sample_keeps_the_batch_norms_statistics(tmp_path: Path) -> None:
    model = model_of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8)), (1, 4, 4))
    options = Training(epochs=1, batch_size=13, holdout=0.0)  # 40 samples: three batches, then one sample

    outcome = Trainer(
        model,
        float_network(model),
        samples(),
        options,
        checkpoint=tmp_path / "c.pt",
        key="k",
        seed=0,
        learns_norms=True,
    ).run(Silent(), what="x")

    assert outcome.steps == 4
    assert int(model.network.state_dict()["2.num_batches_tracked"]) == 3


def test_a_reach_without_shifts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'shift_pixels' needs \"shift\" or \"time_shift\" in 'augment'"):
        Training(steps=1, shift_pixels=2)


@pytest.mark.parametrize(
    ("norms", "by_method", "follows"), [(None, True, True), ("keep", True, False), ("learn", False, True)]
)
def test_a_recipe_says_whether_batch_norms_follow(norms: Any, by_method: bool, follows: bool, tmp_path: Path) -> None:
    model = model_of(
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)), (1, 4, 4)
    )
    given = Training(steps=3, batch_size=8, learning_rate=0.01, norms=norms, holdout=0.0)
    one = Trainer(
        model,
        float_network(model),
        samples(),
        given,
        checkpoint=tmp_path / "c.pt",
        key="k",
        seed=3,
        learns_norms=by_method,
    )
    network: Any = model.network
    before = network[1].running_mean.clone()

    one.run(Silent(), what="Training")

    assert torch.equal(network[1].running_mean, before) != follows
    assert network[0].weight.is_contiguous()  # however it lay in memory while it learned
