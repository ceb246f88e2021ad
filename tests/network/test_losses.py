"""What a training makes small, against NumPy: distance to the teacher, labels mixed in, and features that resemble the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edgepack.core.errors import DataError, RecipeError
from edgepack.core.section import validate
from edgepack.core.types import Samples, Silent
from edgepack.network.losses import Features, likeness_loss, output_distance, values_loss
from edgepack.network.model import Model, as_tensors
from edgepack.network.train import Trainer
from edgepack.network.training import Training
from network.test_grid import model_of

Floats = NDArray[np.float64]


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def likeness(ours: Floats, theirs: Floats) -> float:
    """By hand, sample by sample."""
    rows = []
    for features in (ours, theirs):
        flat = features.reshape(len(features), -1)
        products = np.array([[a @ b for b in flat] for a in flat])
        rows.append(products / np.sqrt((products**2).sum(1, keepdims=True)))
    return float(np.mean([((a - b) ** 2).sum() for a, b in zip(*rows, strict=True)]))


def network(hidden: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, hidden), nn.ReLU(), nn.Linear(hidden, 3))


def samples() -> Samples:
    rng = np.random.default_rng(0)
    return Samples(inputs={"x": rng.normal(size=(40, 1, 4, 4)).astype(np.float32)}, labels=rng.integers(0, 3, 40))


def trainer(
    folder: Path, *, before: Callable[[int, int], None] | None = None, labels: bool = True, **options: Any
) -> Trainer:
    """A student with 5 hidden units, a teacher with 8."""
    torch.manual_seed(1)
    model: Model = model_of(lambda: network(5, 1), (1, 4, 4))
    given = Training(**{"steps": 10, "batch_size": 6, "learning_rate": 0.01, **options})
    data = samples() if labels else Samples(inputs=samples().inputs)
    return Trainer(
        model, network(8, 2), data, given, checkpoint=folder / "checkpoint.pt", key="k", seed=3, before_step=before
    )


def test_classes_are_compared_by_divergence_at_a_temperature() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 7, 4))

    loss = output_distance(torch.tensor(ours), torch.tensor(theirs), Training(steps=1, temperature=3.0))

    p, q = softmax(theirs / 3), softmax(ours / 3)
    assert float(loss) == pytest.approx(9 * (p * np.log(p / q)).sum() / 7)


def test_likeness_is_that_of_numpy_for_any_number_of_values() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(6, 3, 2, 2)), rng.normal(size=(6, 7, 4, 4))

    loss = likeness_loss(*(torch.tensor(one, dtype=torch.float32).flatten(1) for one in (ours, theirs)))

    assert float(loss) == pytest.approx(likeness(ours, theirs), rel=1e-5)


def test_features_that_are_only_turned_and_scaled_are_alike() -> None:
    rng = np.random.default_rng(0)
    theirs = torch.tensor(rng.normal(size=(8, 4)))
    turn = torch.tensor(np.linalg.qr(rng.normal(size=(4, 4)))[0])

    assert float(likeness_loss(theirs @ turn * 5, theirs)) == pytest.approx(0, abs=1e-10)
    assert 0.1 < float(likeness_loss(torch.tensor(rng.normal(size=(8, 4))), theirs)) <= 4


def test_features_of_dead_units_have_a_gradient_that_is_finite() -> None:
    ours = torch.zeros(4, 3, requires_grad=True)

    likeness_loss(ours, torch.ones(4, 5)).backward()  # type: ignore[no-untyped-call]

    assert ours.grad is not None and bool(torch.isfinite(ours.grad).all())


@pytest.mark.parametrize("features", [(), ({"1": "1"},)])
def test_the_loss_mixes_teacher_labels_and_features_as_asked(features: tuple[Any, ...], tmp_path: Path) -> None:
    weights: dict[str, Any] = {"features": features, "features_weight": 2.5} if features else {}
    one = trainer(tmp_path, temperature=2.0, labels_weight=0.3, **weights)
    batch = samples().take(slice(0, 6))
    inputs = as_tensors(one.model, batch)
    seen: list[float] = []
    if features:
        learner, teacher = Features(one.model.network, ["1"], where=""), Features(one.teacher, ["1"], where="")
        one.features = learner, teacher

    seen.append(float(one._loss(inputs, batch).detach()))

    with torch.no_grad():
        layers: tuple[Any, Any] = (one.model.network, one.teacher)
        hidden = [net[1](inputs[0].flatten(1)).double().numpy() for net in layers]
        ours, theirs = (net(inputs[0]).double().numpy() for net in layers)
    p, q = softmax(theirs / 2), softmax(ours / 2)
    divergence = 4 * (p * np.log(p / q)).sum() / 6
    assert batch.labels is not None
    entropy = -np.log(softmax(ours)[np.arange(6), batch.labels]).mean()
    expected = 0.7 * divergence + 0.3 * entropy + (2.5 * likeness(*hidden) if features else 0)
    assert seen[0] == pytest.approx(expected, rel=1e-5)


def test_features_teach_the_layers_below_them_only(tmp_path: Path) -> None:
    one = trainer(tmp_path, loss="labels", features=("1",))
    learner, teacher = Features(one.model.network, ["1"], where=""), Features(one.teacher, ["1"], where="")
    one.model.network(torch.randn(6, 1, 4, 4)), one.teacher(torch.randn(6, 1, 4, 4))

    likeness_loss(*learner.take(), *teacher.take()).backward()  # type: ignore[no-untyped-call]

    layers: Any = one.model.network
    assert float(layers[1].weight.grad.abs().sum()) > 0
    assert layers[3].weight.grad is None
    assert one.teacher.get_parameter("1.weight").grad is None


def test_features_come_closer_in_training_and_leave_no_hooks(tmp_path: Path) -> None:
    one = trainer(tmp_path, steps=150, features=("1",), features_weight=5.0, holdout=0.2)

    outcome = one.run(Silent(), what="x")

    assert outcome.best_loss < 0.5 * outcome.first_loss
    assert all(not module._forward_hooks for net in (one.model.network, one.teacher) for module in net.modules())


def test_a_training_with_features_and_labels_goes_on_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def stop(step: int, _total: int) -> None:
        if step == 7:
            raise Killed

    monkeypatch.setattr("edgepack.network.train._CHECKPOINT_EVERY_S", 0.0)
    options: dict[str, Any] = {"features": ("1", {"2": "3"}), "labels_weight": 0.5}
    whole = trainer(tmp_path / "whole", **options)
    expected = whole.run(Silent(), what="x")
    with pytest.raises(Killed):
        trainer(tmp_path, before=stop, **options).run(Silent(), what="x")

    resumed = trainer(tmp_path, **options)

    assert resumed.run(Silent(), what="x") == expected
    ours, theirs = resumed.model.network.state_dict(), whole.model.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_several_calls_of_a_module_count_together() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> Any:
            return self.relu(x), self.relu(-x)

    shared = Twice()
    taken = Features(shared, ["relu"], where="")

    shared(torch.ones(2, 3))

    assert taken.take()[0].tolist() == [[1, 1, 1, 0, 0, 0]] * 2


def test_a_module_that_is_not_there_or_never_called_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"train\.features: the teacher has no module '11' \(did you mean '1'\?\)"):
        trainer(tmp_path, features=({"1": "11"},)).run(Silent(), what="x")
    with pytest.raises(RecipeError, match="the network never calls its module 'idle'; name one that forward calls"):
        taken = Features(nn.ModuleDict({"idle": nn.Linear(1, 1)}), ["idle"], where="train.features: the network")
        taken.take()


def test_labels_in_the_loss_need_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a loss with labels needs labelled"):
        trainer(tmp_path, labels=False, labels_weight=0.1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels_weight": 0.5, "loss": "mse"}, '\'labels_weight\' mixes labels into loss = "distill", not into "mse"'),
        ({"features_weight": 2.0}, "'features_weight' needs 'features'"),
        ({"loss": "labels", "teacher": {"factory": "a:b"}}, "nobody asks the 'teacher'"),
        ({"labels_weight": 1.5}, "less than or equal to 1"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Training(steps=1, **options)


def test_values_are_compared_by_the_error_over_the_teachers_variance() -> None:
    rng = np.random.default_rng(4)
    ours, theirs = rng.normal(size=(5, 12)), 3 * rng.normal(size=(5, 12))
    found = float(values_loss(torch.from_numpy(ours), torch.from_numpy(theirs)))
    assert found == pytest.approx(((ours - theirs) ** 2).mean() / theirs.var(ddof=1))
    assert float(values_loss(torch.from_numpy(theirs), torch.from_numpy(theirs))) == 0


def test_features_by_values_come_nearer_one_by_one(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model: Model = model_of(lambda: network(8, 1), (1, 4, 4))
    data = samples()
    inputs = as_tensors(model, data)
    given = Training(
        steps=80, batch_size=10, learning_rate=0.01, features=("1",), features_by="values", features_weight=10.0, holdout=0.0
    )  # fmt: skip
    one = Trainer(model, network(8, 2), data, given, checkpoint=tmp_path / "c.pt", key="k", seed=3)

    def apart() -> float:
        with torch.no_grad():
            return float(values_loss(one.model.network[:2](*inputs), one.teacher[:2](*inputs)))  # type: ignore[index]

    before = apart()
    one.run(Silent(), what="Training")
    assert apart() < 0.2 * before


def test_features_by_values_have_one_shape(tmp_path: Path) -> None:
    one = trainer(tmp_path, features=("1",), features_by="values")
    with pytest.raises(RecipeError, match="'1' gives 5 values a sample, the teacher's '1' 8, and features_by"):
        one.run(Silent(), what="Training")


def test_how_features_are_compared_needs_features() -> None:
    with pytest.raises(RecipeError, match="'features_by' needs 'features'"):
        validate(Training, {"steps": 1, "features_by": "values"}, where="train")
