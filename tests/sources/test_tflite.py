"""An already quantized .tflite: verified, bundled and benched as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_project import PTQ, Project

from edgepack.bundle import read_bundle
from edgepack.core.errors import RecipeError, SourceError, UnsupportedError
from edgepack.pipeline import build, build_all
from edgepack.plan import make_plan, make_plans
from edgepack.stages.outline import outline
from edgepack.store.cache import StageCache
from edgepack.verified import verify

RECIPE = """
targets = ["arm64"]

[bundle]
name = "finished"

[model]
file = "model.tflite"

[data.evaluation]
provider = "npz"
file = "evaluation.npz"
y = "y"
"""


@pytest.fixture(scope="module")
def project(built_project: Callable[[str], Project], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished model, its evaluation samples and a recipe."""
    made = built_project(PTQ)
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(next((made.work / "stages").glob("export-*")) / "model.tflite", folder)
    shutil.copy(made.folder / "evaluation.npz", folder)
    (folder / "edgepack.toml").write_text(RECIPE)
    return folder


def changed(project: Path, to: Path, old: str = "", new: str = "") -> Path:
    shutil.copytree(project, to, ignore=shutil.ignore_patterns(".edgepack", "dist"))
    (to / "edgepack.toml").write_text(RECIPE.replace(old, new) if old else RECIPE + new)
    return to


def test_a_finished_model_is_bundled_byte_for_byte_and_judged_by_its_labels(
    project: Path, built_project: Callable[[str], Project]
) -> None:
    bundle = build(project)

    about = bundle.variant()
    assert bundle.read(about.model.path) == (project / "model.tflite").read_bytes()
    (compressed_here,) = (built_project(PTQ).folder / "dist").glob("*.edgepack")
    expected = read_bundle(compressed_here).variant()
    assert about.metric is not None and expected.metric is not None
    assert (about.metric.value, about.metric.float_value) == (expected.metric.value, None)
    assert about.model.precision == "int8"
    assert [item.quantization for item in about.inputs] == [item.quantization for item in expected.inputs]
    assert about.lineage["float_model"] is None
    assert verify(bundle.path).passed


def test_its_parity_table_has_runtimes_only(project: Path) -> None:
    parity = build_all(project).parity

    assert {row.kind for row in parity.rows} == {"runtime"}
    assert parity.rows[0].agreement is None
    assert parity.checks == ()


def test_its_plan_says_what_is_done(project: Path) -> None:
    build(project)
    plans = make_plans(project)

    stages = outline(plans, StageCache(plans[0].work_folder))

    assert [stage.stage for stage in stages] == ["export", "outputs"]
    assert all(stage.is_done for stage in stages)


def test_compression_is_refused_before_anything_runs(project: Path, tmp_path: Path) -> None:
    folder = changed(project, tmp_path / "project", new=PTQ)

    with pytest.raises((UnsupportedError, RecipeError), match=r"ships as it is|data\.calibration"):
        make_plan(folder)


def test_a_target_of_another_format_is_refused(project: Path, tmp_path: Path) -> None:
    folder = changed(project, tmp_path / "project", 'targets = ["arm64"]', 'targets = ["intel"]')

    with pytest.raises(
        UnsupportedError, match="target 'intel' takes openvino files and this model is a finished tflite file"
    ):
        make_plan(folder)


def test_its_inputs_keep_their_names(project: Path, tmp_path: Path) -> None:
    inputs = '\n[[model.inputs]]\nname = "picture"\nshape = [1, 8, 8]\n'
    folder = changed(project, tmp_path / "project", 'file = "model.tflite"\n', f'file = "model.tflite"\n{inputs}')

    with pytest.raises(SourceError, match=r"'picture' is called 'image' in model\.tflite"):
        make_plan(folder)


@pytest.mark.parametrize("content", [b"", b"no model at all", None])
def test_a_damaged_file_is_one_clear_error(project: Path, tmp_path: Path, content: bytes | None) -> None:
    folder = changed(project, tmp_path / "project")
    whole = (folder / "model.tflite").read_bytes()
    (folder / "model.tflite").write_bytes(whole[: len(whole) // 2] if content is None else content)

    with pytest.raises(SourceError, match=r"model\.tflite is (empty|damaged)"):
        make_plan(folder)


@pytest.mark.data
@pytest.mark.skipif("EDGEPACK_TEST_DATA" not in os.environ, reason="EDGEPACK_TEST_DATA is not set")
def test_the_keyword_spotting_model_of_mlperf_tiny_is_as_good_as_published(tmp_path: Path) -> None:
    data = "${EDGEPACK_TEST_DATA}"
    recipe = RECIPE.replace("model.tflite", f"{data}/mlperf_tiny/kws_int8.tflite")
    (tmp_path / "edgepack.toml").write_text(recipe.replace("evaluation.npz", f"{data}/speech_commands_test_mfcc.npz"))

    metric = build(tmp_path).variant().metric

    assert metric is not None and metric.samples == 4890
    assert np.isclose(metric.value, 0.9188, atol=5e-4)
