"""SavedModels: what they say without TensorFlow, what is refused before anything runs, and that the network computes what TensorFlow does."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_project import Project

from edgepack.core.errors import EnvironmentProblem, SourceError, UnsupportedError
from edgepack.network.model import Model
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources import open_source
from edgepack.sources.saved_model import SavedModel
from sources.model_files import trained
from sources.tensorflow_files import run_tensorflow, write_tiny

SEVERAL = """
def run(v, image, extra):
    x = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(image, v["stem"], 2, "SAME")), 3, 2, "SAME")
    x = tf.concat([x, tf.nn.avg_pool2d(x, 3, 1, "SAME")], -1)
    return {"scores": tf.reduce_mean(x, [1, 2]) @ v["head"] + extra, "odds": tf.nn.softmax(extra)}

rng = np.random.default_rng(0)
stem, head = rng.normal(size=(3, 3, 3, 4)).astype("f"), rng.normal(size=(8, 5)).astype("f")
image, extra = tf.TensorSpec((None, None, 9, 3), name="image"), tf.TensorSpec((None, 5), name="extra")
model, concrete = save(run, sys.argv[1] + "/several", image, extra, stem=stem, head=head)
tf.saved_model.save(model, sys.argv[1] + "/two", signatures={"first": concrete, "second": concrete})
tf.saved_model.save(model, sys.argv[1] + "/none")
row = tf.TensorSpec((None, 4), name="x")
save(lambda v, x: {"y": tf.py_function(lambda a: a * v["w"], [x], tf.float32)}, sys.argv[1] + "/python", row, w=np.float32(2))
save(lambda v, x: {"y": tf.linalg.det(tf.reshape(x, (-1, 2, 2)))[:, None] * v["w"]}, sys.argv[1] + "/foreign", row, w=np.float32(2))
save(lambda v, x: {"y": tf.strings.length(x)}, sys.argv[1] + "/text", tf.TensorSpec((None, 1), tf.string, name="x"))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved models")
    run_tensorflow(SEVERAL, str(folder))
    return folder


@pytest.fixture
def tiny(tiny_project: Callable[..., Project]) -> Path:
    project = tiny_project()
    write_tiny(trained(project), project.folder / "saved")
    return project.folder / "saved"


def source(path: Path, *inputs: InputSection, **more: Any) -> SavedModel:
    opened = open_source(ModelSection(file=path.name, inputs=inputs, kind="saved_model", **more), path.parent)
    assert isinstance(opened, SavedModel)
    return opened


def load(path: Path, scratch: Path, *inputs: InputSection, **more: Any) -> Model:
    scratch.mkdir()
    return source(path, *inputs, **more).load(scratch)[0]


IMAGE, EXTRA = InputSection(name="image", shape=(12, 9, 3)), InputSection(name="extra", shape=(5,))


def test_names_shapes_and_layouts_come_from_the_signature(tiny: Path) -> None:
    (image,) = source(tiny).inputs()

    assert (image.name, image.shape, image.dtype, image.layout) == ("image", (8, 8, 1), "float32", "HWC")
    assert {file.name for file in source(tiny).files()} >= {"saved_model.pb", "variables.index"}


def test_several_inputs_and_outputs_with_sizes_that_the_recipe_gives(written: Path, tmp_path: Path) -> None:
    model = load(written / "several", tmp_path / "scratch", IMAGE, EXTRA)

    assert [(spec.name, spec.shape) for spec in model.inputs] == [("extra", (1, 5)), ("image", (1, 12, 9, 3))]
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("odds", (1, 5)), ("scores", (1, 5))]
    operations = [str(node.target) for node in torch.export.export(model.network, model.example()).graph.nodes]
    assert sum("permute" in operation for operation in operations) == 1
    assert not [name for name, _ in model.network.named_parameters() if "PartitionedCall" in name]


def test_a_signature_is_chosen_by_name(written: Path) -> None:
    with pytest.raises(
        SourceError,
        match=r"has the signatures first, second and none is called 'serving_default'; say which with model\.signature",
    ):
        source(written / "two", IMAGE, EXTRA).inputs()
    with pytest.raises(
        SourceError, match=r"has no signature 'secnd' \(did you mean 'second'\?\); correct model\.signature"
    ):
        source(written / "two", IMAGE, EXTRA, signature="secnd").inputs()

    assert len(source(written / "two", IMAGE, EXTRA, signature="second").inputs()) == 2


def test_a_model_without_a_signature_is_refused(written: Path) -> None:
    with pytest.raises(SourceError, match=r"has no signature, so nothing says what its inputs are; export it with"):
        source(written / "none").inputs()


def test_an_open_size_without_a_bound_is_refused(written: Path) -> None:
    with pytest.raises(
        SourceError, match=r"input 'image' has shape \[batch, size 1, 9, 3\]: nothing says how large 'size 1' is"
    ):
        source(written / "several").inputs()


def test_inputs_of_text_are_refused(written: Path) -> None:
    with pytest.raises(SourceError, match="input 'x' is string; edgepack takes float32"):
        source(written / "text").inputs()


def test_operations_that_reach_outside_are_refused_before_tensorflow_reads_the_model(written: Path) -> None:
    with pytest.raises(SourceError, match=r"its operation EagerPyFunc reaches outside the model.*allow_code = true"):
        source(written / "python").inputs()


def test_an_operation_without_a_counterpart_is_named(written: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"model\.file: foreign: .*(Det|MatrixDeterminant)"):
        load(written / "foreign", tmp_path / "scratch")


def test_an_operation_that_tensorflow_does_not_know_is_named(tiny: Path, tmp_path: Path) -> None:
    content = (tiny / "saved_model.pb").read_bytes()
    (tiny / "saved_model.pb").write_bytes(content.replace(b"\x05Relu6", b"\x05Mine6"))

    with pytest.raises(UnsupportedError, match="uses the operation 'Mine6', which is no part of TensorFlow"):
        load(tiny, tmp_path / "scratch")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "variables"), r"its variables are missing: there is no variables/variables\.index in it"),
        (lambda folder: (folder / "variables/variables.data-00000-of-00001").rename(folder / "variables/variables.data-00000-of-00002"), r"there is no variables/variables\.data-00001-of-00002"),
        (lambda folder: (folder / "saved_model.pb").write_bytes((folder / "saved_model.pb").read_bytes()[:-100]), r"saved_model\.pb in it is truncated or no SavedModel"),
        (lambda folder: (folder / "saved_model.pb").write_bytes(b""), "holds no graph"),
        (lambda folder: (folder / "saved_model.pb").rename(folder / "saved_model.pbtxt"), "is a SavedModel in text form"),
        (lambda folder: (folder / "saved_model.pb").unlink(), r"is no SavedModel: there is no saved_model\.pb in it"),
    ],
    ids=["no variables", "a shard is missing", "truncated", "empty", "text", "no graph file"],
)  # fmt: skip
def test_a_folder_that_is_not_whole_is_refused_by_the_plan(
    tiny: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(tiny)

    with pytest.raises(SourceError, match=message):
        source(tiny).inputs()


def test_damaged_variables_are_refused(tiny: Path, tmp_path: Path) -> None:
    shard = tiny / "variables" / "variables.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-500])

    with pytest.raises(SourceError, match=r"saved: TensorFlow can't load it: .*copy or export it again"):
        load(tiny, tmp_path / "scratch")


def test_a_file_in_the_place_of_the_folder_is_refused(tiny: Path) -> None:
    with pytest.raises(SourceError, match=r"is a file; a SavedModel is the folder"):
        source(tiny / "saved_model.pb").inputs()


@pytest.mark.parametrize("package", ["tensorflow", "tf2onnx"])
def test_a_package_that_is_not_installed_is_said_by_the_plan(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(
        EnvironmentProblem, match=rf"{package}, which is not installed; .*pip install 'edgepack\[saved-model\]'"
    ):
        source(tiny).files()
