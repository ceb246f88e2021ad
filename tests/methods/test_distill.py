"""A student takes the model's place: another network, in every later stage, that learned from the original or from another teacher."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_project import Building, Project, Recorder, seeded_network
from torch import nn

from edgepack.bundle.update_base import read_base
from edgepack.core.errors import DataError, EdgepackError, RecipeError, SourceError, UnsupportedError
from edgepack.core.types import Silent
from edgepack.network.model import Model, predict
from edgepack.pipeline import build
from edgepack.plan import BuildPlan, make_plan
from edgepack.stages.compress import compress
from edgepack.stages.load import Stored, load
from edgepack.stages.samples import open_role
from edgepack.store.cache import StageCache

Make = Callable[..., Project]
TRAIN = "[compress.train]\nsteps = 6\nbatch_size = 8\nlearning_rate = 0.01\n"
PRUNE = f'[[compress]]\nmethod = "prune_channels"\nsparsity = 0.2\nrounds = 1\n{TRAIN}holdout = 0.0\n'
STUDENT_FILE = "student.py"


def distill(options: str = 'factory = "student:small"', train: str = "") -> str:
    return f'[[compress]]\nmethod = "distill"\n{options}\n{TRAIN}{train}\n'


def compressed(project: Project) -> tuple[BuildPlan, Stored]:
    plan = make_plan(project.folder)
    cache = StageCache(plan.work_folder)
    return plan, compress(plan, cache, load(plan, cache, Silent()), Silent())


def values(project: Project) -> bytes:
    return (compressed(project)[1].folder / "state.safetensors").read_bytes()


def parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def test_the_student_is_what_every_later_step_works_on(tiny_project: Make) -> None:
    """Channels go from the student, and QAT learns with features whose channels are fewer than the teacher's."""
    features = 'features = [{ first = "stem" }, { second = "down" }]\nfeatures_weight = 2.0\n'
    project = tiny_project(distill() + PRUNE + f'[[compress]]\nmethod = "quantize"\nmode = "qat"\n{TRAIN}{features}')

    plan, stored = compressed(project)

    model: Model = stored.open(plan)
    first, pruned, quantized = model.lineage
    network: Any = model.network
    assert [one["method"] for one in model.lineage] == ["distill", "prune_channels", "quantize"]
    assert first["student"]["factory"] == "student:small" and first["teacher"] is None
    assert first["after"] == pruned["before"]
    assert pruned["after"]["macs"] <= 0.8 * first["after"]["macs"]
    assert first["after"]["parameters"] == 384 < first["before"]["parameters"]
    assert quantized["train_samples"] == 48
    assert type(network).__name__ == "Small" and network.head.out_features == 4
    assert network.first[0].out_channels < 4 or network.second[0].out_channels < 8
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 4)


def test_a_trained_student_can_be_the_model_of_another_recipe(tiny_project: Make) -> None:
    """What a search over a student begins with (docs/tune.md)."""
    project = tiny_project(distill())
    _, trained = compressed(project)
    shutil.copy(trained.folder / "state.safetensors", project.folder / "student.safetensors")

    project.write_recipe(weights="student.safetensors")
    project.replace("model:make", "student:small")

    plan = make_plan(project.folder)
    network = load(plan, StageCache(plan.work_folder), Silent()).open(plan).network
    values = load_file(trained.folder / "state.safetensors")
    assert type(network).__name__ == "Small"
    assert network.state_dict().keys() == values.keys()
    assert all(torch.equal(value, values[name]) for name, value in network.state_dict().items())


def test_channels_that_go_are_a_share_of_the_student_over_two_steps(tiny_project: Make) -> None:
    more = PRUNE.replace("sparsity = 0.2", "sparsity = 0.4")
    plan, stored = compressed(tiny_project(distill('factory = "student:small"\nargs = { width = 8 }') + PRUNE + more))

    student, _, pruned = stored.open(plan).lineage

    assert 0.4 * student["after"]["macs"] < pruned["after"]["macs"] <= 0.6 * student["after"]["macs"]


def test_an_edited_student_is_trained_again_and_nothing_else_is(tiny_project: Make) -> None:
    project = tiny_project(distill())
    first = values(project)
    before = project.stages()
    assert values(project) == first

    project.replace("stride=2", "stride=1", file=STUDENT_FILE)

    assert values(project) != first
    assert {name.rpartition("-")[0] for name in project.stages().keys() - before.keys()} == {"network", "distill"}


def test_what_the_students_file_imports_counts_as_the_student(tiny_project: Make) -> None:
    project = tiny_project(distill())
    (project.folder / "blocks.py").write_text("STRIDE = 2\n")
    project.replace("from model", "from blocks import STRIDE\nfrom model", file=STUDENT_FILE)
    project.replace("stride=2", "stride=STRIDE", file=STUDENT_FILE)
    first = values(project)

    (project.folder / "blocks.py").write_text("STRIDE = 1\n")

    assert values(project) != first


def test_a_teacher_by_name_that_is_the_original_teaches_the_same(tiny_project: Make) -> None:
    named = 'teacher = { factory = "model:make", weights = "weights.safetensors", args = { classes = 4 } }\n'

    first = values(tiny_project(distill(), name="first"))

    assert values(tiny_project(distill(train=named), name="second")) == first


def test_another_teacher_teaches_something_else_in_any_step(tiny_project: Make) -> None:
    """One whose outputs are those of the original the other way round."""
    flipped = (
        "\n\nclass Flipped(Small):\n    def forward(self, image):\n        return super().forward(image).flip(1)\n"
    )

    def made(teacher: str, name: str) -> bytes:
        project = tiny_project(PRUNE + teacher, name=name)
        file = project.folder / STUDENT_FILE
        file.write_text(file.read_text() + flipped)
        return values(project)

    own = made("", "own")

    assert made('teacher = { factory = "student:small" }\n', "first") != own
    assert made('teacher = { factory = "student:Flipped", args = { width = 4, classes = 4 } }\n', "second") != own


def test_a_student_starts_from_its_own_weights(tiny_project: Make) -> None:
    from safetensors.torch import load_file, save_file

    project = tiny_project(distill().replace("learning_rate = 0.01", "learning_rate = 1e-9\nholdout = 0.0"))
    _, stored = compressed(project)
    state = load_file(stored.folder / "state.safetensors")
    state["head.weight"] += 1
    save_file(state, project.folder / "start.safetensors")
    project.replace('"student:small"', '"student:small"\nweights = "start.safetensors"')

    _, again = compressed(project)

    found = load_file(again.folder / "state.safetensors")
    assert torch.allclose(found["head.weight"], state["head.weight"], atol=1e-6)


@pytest.mark.slow
def test_a_model_file_can_have_a_student(tiny_project: Make) -> None:
    from safetensors.torch import load_file

    project = tiny_project(distill() + '[[compress]]\nmethod = "quantize"\nmode = "ptq"\n')
    network = seeded_network()
    network.load_state_dict(load_file(project.folder / "weights.safetensors"))
    torch.onnx.export(network, (torch.zeros(1, 1, 8, 8),), project.folder / "tiny.onnx", input_names=["image"])
    project.replace('factory = "model:make"\nweights = "weights.safetensors"', 'file = "tiny.onnx"')

    plan, stored = compressed(project)

    model = stored.open(plan)
    assert type(model.network).__name__ == "Small"
    assert [one["method"] for one in model.lineage] == ["distill", "quantize"]


@pytest.mark.slow
def test_an_update_of_a_student_keeps_its_grid_and_an_update_of_the_original_is_refused(tiny_project: Make) -> None:
    """The fine-tuned student is a model of its own by then."""
    ptq = '[[compress]]\nmethod = "quantize"\nmode = "ptq"\n'
    first = tiny_project(distill() + ptq, name="first")
    bundle = build(first.folder, allow_failed_checks=True)
    _, trained = compressed(tiny_project(distill(), name="second"))
    tuned = tiny_project(ptq, name="tuned")
    tuned.replace('"model:make"', '"student:small"')
    shutil.copy(trained.folder / "state.safetensors", tuned.folder / "weights.safetensors")
    again = tiny_project(distill() + ptq, name="again")
    for project in (tuned, again):
        project.recipe.write_text(f'update_of = "{bundle.path}"\n' + project.recipe.read_text())

    grids = [read_base(build(one.folder, allow_failed_checks=True).path, target="arm64").grid for one in (tuned, again)]

    wanted = read_base(bundle.path, target="arm64").grid
    assert all(grid.weights == wanted.weights and grid.activations == wanted.activations for grid in grids)
    other = tiny_project(ptq, name="other")
    other.recipe.write_text(f'update_of = "{bundle.path}"\n' + other.recipe.read_text())
    with pytest.raises(RecipeError, match="another architecture: it has a weight 'first"):
        build(other.folder)


WRONG: dict[str, tuple[str, type[EdgepackError], str]] = {
    "no module": ('factory = "studnt:small"', SourceError, r"compress\.0 \(distill\)\.factory: no module 'studnt'"),
    "no function": ('factory = "student:smal"', SourceError, r"no function 'smal' \(did you mean 'small'\?\)"),
    "no reference": ('factory = "student"', RecipeError, r"factory: must look like 'module:function', got 'student'"),
    "an argument too many": (
        'factory = "student:small"\nargs = { widht = 2 }', SourceError,
        r"student\.py's small takes no argument 'widht' \(did you mean 'width'\?\)",
    ),
    "an argument too few": ('factory = "student:Small"', SourceError, "student.py's Small needs the argument 'width'"),
    "no weights": (
        'factory = "student:small"\nweights = "x.pt"', SourceError, r"compress\.0 \(distill\)\.weights: no file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_student_that_can_not_be_is_refused_while_planning(case: str, tiny_project: Make) -> None:
    options, kind, told = WRONG[case]

    with pytest.raises(kind, match=told):
        make_plan(tiny_project(distill(options)).folder)


def test_a_teacher_that_can_not_be_is_refused_while_planning(tiny_project: Make) -> None:
    project = tiny_project(distill(train='teacher = { factory = "model:mak" }\n'))

    with pytest.raises(
        SourceError, match=r"compress\.0 \(distill\): train\.teacher\.factory: model\.py has no function"
    ):
        make_plan(project.folder)


def test_a_student_comes_first_and_alone(tiny_project: Make) -> None:
    with pytest.raises(RecipeError, match="distill comes after prune_channels"):
        make_plan(tiny_project(PRUNE + distill(), name="late").folder)
    with pytest.raises(RecipeError, match="a second student would take the place of the first"):
        make_plan(tiny_project(distill() + distill(), name="two").folder)


def test_labels_are_asked_for_while_planning(tiny_project: Make) -> None:
    project = tiny_project(distill(train="labels_weight = 0.5\n"))

    with pytest.raises(RecipeError, match=r"train learns from labels, and data\.train has none; .*'y'"):
        make_plan(project.folder)
    project.replace('file = "train.npz"\n\n', 'file = "train.npz"\ny = "y"\n\n')
    make_plan(project.folder)


@pytest.mark.slow
def test_labels_that_are_no_classes_of_the_model_are_found_before_training(tiny_project: Make) -> None:
    project = tiny_project(distill(train="labels_weight = 0.5\n"))
    project.replace('file = "train.npz"\n\n', 'file = "train.npz"\ny = "y"\n\n')
    project.write_data("train", y=project.data("train")["y"] + 1)
    progress = Recorder()

    with pytest.raises(DataError, match=r"data\.train: .*4"):
        build(project.folder, progress=progress)

    assert not any(what.startswith("Training") for what in progress.started)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("classes=4", "classes=3", r"gives 1 output of shape \[1, 3\], the model gives 1 output of shape \[1, 4\]"),
        (
            "return Small(",
            "return 1 / 0, Small(",
            r"compress\.0 \(distill\)\.factory: student:small raised ZeroDivision",
        ),
        ("conv(1, width, stride=2)", "conv(3, width)", "the model refuses inputs of shape image"),
    ],
)
def test_a_student_that_does_not_fit_is_refused_before_training(
    old: str, new: str, told: str, tiny_project: Make
) -> None:
    project = tiny_project(distill())
    project.replace(old, new, file=STUDENT_FILE)

    with pytest.raises(SourceError, match=told):
        compressed(project)

    assert not any("distill" in name for name in project.stages())


def test_features_that_are_not_there_are_refused_before_the_first_step_is_trained(tiny_project: Make) -> None:
    late = PRUNE + 'features = [{ first = "stemm" }]\n'

    with pytest.raises(
        RecipeError,
        match=r"compress\.1 \(prune_channels\): train\.features: the teacher has no module 'stemm' \(did you",
    ):
        compressed(tiny_project(distill() + late))


@pytest.mark.slow
def test_the_target_is_asked_about_the_student_not_about_its_teacher(tiny_project: Make) -> None:
    steps = distill() + '[[compress]]\nmethod = "quantize"\nmode = "ptq"\n'
    project = tiny_project(steps, extra="")
    project.replace("features.mean((2, 3))", "features.amax((2, 3))", file="model.py")  # no int8 kernel takes that
    plan = make_plan(project.folder)
    cache = StageCache(plan.work_folder)
    from edgepack.stages.export import baseline
    from edgepack.stages.networks import load_networks

    loaded = load(plan, cache, Silent())
    student = load_networks(plan, cache, loaded, Silent()).student
    assert student is not None

    baseline(plan, cache, loaded, Silent())
    project.replace(".mean((2, 3))", ".amax((2, 3))", file=STUDENT_FILE)
    progress = Recorder()

    with pytest.raises(UnsupportedError, match="REDUCE_MAX"):
        build(project.folder, progress=progress)
    assert not any(what.startswith("Training") for what in progress.started)


DIGITS = """
seed = 1
threads = 1
[bundle]
name = "digits"
version = "1.0.0"
[model]
factory = "mlp:make"
args = { hidden = 64 }
weights = "weights.pt"
[[model.inputs]]
name = "image"
shape = [8, 8]
[data.train]
provider = "digits"
split = "train"
[data.evaluation]
provider = "digits"
split = "test"
[[preprocess]]
op = "to_float"
divide = 255.0
[budget]
drop_points = 5.0
[[compress]]
method = "distill"
factory = "mlp:make"
args = { hidden = 32 }
[compress.train]
epochs = 15
learning_rate = 0.01
temperature = 4.0
labels_weight = 0.2
features = ["1"]
"""
MLP = """from torch import nn
def make(hidden):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
"""


def digits_project(folder: Path) -> Project:
    """A trained 64-64-10 and a student 64-32-10 of the same factory."""
    from edgepack.data.digits import Digits

    folder.mkdir()
    (folder / "mlp.py").write_text(MLP)
    (folder / "edgepack.toml").write_text(DIGITS)
    raw = Digits(recipe_folder=folder, split="train").load()
    assert raw.labels is not None
    x, y = torch.from_numpy(np.asarray(raw.samples, np.float32) / 255), torch.from_numpy(raw.labels)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    torch.save(network.state_dict(), folder / "weights.pt")
    return Project(folder=folder)


def test_half_the_hidden_units_do_nearly_as_well(tmp_path: Path) -> None:
    plan, stored = compressed(digits_project(tmp_path / "digits"))

    samples = open_role(plan, plan.evaluation, labelled=True).all()
    assert samples.labels is not None
    right = (predict(stored.open(plan), samples)["output"].argmax(1) == samples.labels).mean()
    assert right > 0.93


@pytest.mark.slow
def test_a_build_with_a_student_that_was_killed_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole = digits_project(tmp_path / "whole")
    killed = Project(folder=Path(shutil.copytree(whole.folder, tmp_path / "killed")))
    building = Building(killed)
    building.wait_for("at 80 Training a student")
    assert building.kill() == -signal.SIGKILL

    progress = Recorder()
    again = build(killed.folder, progress=progress)
    bundle = build(whole.folder)

    assert again.path.read_bytes() == bundle.path.read_bytes()
    ((_, advanced),) = [one for one in progress.advanced.items() if one[0].startswith("Training a student")]
    assert advanced[0] >= 68  # two epochs of 34 steps had a checkpoint
    metric = bundle.variant().metric
    assert metric is not None and metric.value > 0.93 and metric.float_value is not None
    assert metric.value > metric.float_value - 0.03
    lineage: Any = bundle.variant().lineage
    assert (lineage["steps"][0]["before"]["parameters"], lineage["steps"][0]["after"]["parameters"]) == (4810, 2410)
    assert bundle.variant().model.size_bytes < 0.65 * lineage["float_model"]["size_bytes"]
