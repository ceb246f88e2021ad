"""What a build puts into a bundle beside the model: raw samples, steps, reference implementations, licence."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_project import PTQ, Project

from edgepack.bundle import Bundle, read_bundle
from edgepack.bundle.golden import read_golden, read_raw
from edgepack.core.errors import RecipeError
from edgepack.data.answers import default_answer_steps
from edgepack.pipeline import build
from edgepack.plan import BUNDLE_CODE, code_files, make_plans
from edgepack.runtimes.grid import quantize


@pytest.fixture(scope="module")
def bundle(built_project: Callable[[str], Project]) -> Bundle:
    (path,) = (built_project(PTQ).folder / "dist").glob("*.edgepack")
    return read_bundle(path)


def shipped(bundle: Bundle, name: str, folder: Path) -> Any:
    """A reference implementation as an app finds it: the file in the bundle."""
    (folder / name).write_bytes(bundle.read(name))
    spec = importlib.util.spec_from_file_location(f"shipped_{Path(name).stem}", folder / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shipped_preprocessing_leads_from_the_raw_samples_to_the_golden_inputs(
    bundle: Bundle, tmp_path: Path
) -> None:
    raw, variant = read_raw(bundle), bundle.variant()
    assert raw is not None
    grid = variant.inputs[0].as_signature().quantization
    assert grid is not None

    module = shipped(bundle, "preprocess.py", tmp_path)
    codes = quantize(module.preprocess(raw, list(bundle.manifest.preprocess)), grid)

    expected = read_golden(bundle).inputs[variant.inputs[0].name]
    assert len(raw) == len(expected) == 8
    assert codes.tobytes() == expected.tobytes()


def test_the_shipped_postprocessing_names_the_classes_of_the_golden_outputs(bundle: Bundle, tmp_path: Path) -> None:
    output = bundle.variant().outputs[0]
    assert output.quantization is not None
    expected = read_golden(bundle).outputs[output.name]

    module = shipped(bundle, "postprocess.py", tmp_path)
    answers = module.postprocess(
        expected,
        list(bundle.manifest.postprocess),
        quantization=output.quantization.model_dump(),
        labels=bundle.manifest.labels,
    )

    assert [step["op"] for step in bundle.manifest.postprocess] == ["dequantize", "softmax", "top_k"]
    assert [one[0][0] for one in answers] == np.argmax(expected, axis=1).tolist()
    assert answers[0][0][1] == "abcd"[answers[0][0][0]]
    assert all(abs(sum(score for _, _, score in one) - 1) < 1e-5 for one in answers)


def test_steps_and_licence_of_the_recipe_are_bundled_and_nothing_is_trained_again(
    built_project: Callable[[str], Project], tmp_path: Path
) -> None:
    project = built_project(PTQ).copy(tmp_path / "project")
    recipe = project.folder / "edgepack.toml"
    added = 'vocabulary = "tokens.txt"\nlicense_file = "LICENSE.txt"\npostprocess = [{ op = "dequantize" }, { op = "sigmoid" }]\n'
    recipe.write_text(recipe.read_text().replace('name = "tiny"\n', f'name = "tiny"\n{added}'))
    (project.folder / "LICENSE.txt").write_text("Do as you like.\n")
    (project.folder / "tokens.txt").write_text("[PAD]\n[UNK]\n")

    bundle = build(project.folder)

    assert bundle.read("LICENSE") == b"Do as you like.\n"
    assert bundle.read("vocabulary.txt") == b"[PAD]\n[UNK]\n"
    assert [step["op"] for step in bundle.manifest.postprocess] == ["dequantize", "sigmoid"]
    (project.folder / "LICENSE.txt").unlink()
    with pytest.raises(RecipeError, match=r"bundle\.license_file: .*LICENSE\.txt can't be read"):
        make_plans(project.folder)


def test_a_wrong_step_is_found_before_anything_is_built(project_files: Project, tmp_path: Path) -> None:
    project = project_files.copy(tmp_path / "project")
    project.write_recipe(PTQ)
    recipe = project.folder / "edgepack.toml"
    recipe.write_text(
        recipe.read_text().replace('name = "tiny"\n', 'name = "tiny"\npostprocess = [{ op = "softmx" }]\n')
    )

    with pytest.raises(RecipeError, match=r"bundle\.postprocess step 1: unknown op 'softmx' \(did you mean 'softmax'"):
        make_plans(project.folder)


def test_outputs_that_are_shares_get_no_softmax() -> None:
    shares, logits = np.array([[0.25, 0.75], [0.0, 1.0]], np.float32), np.array([[0.25, 3.0]], np.float32)

    assert [step["op"] for step in default_answer_steps(("a", "b"), shares, None)] == ["dequantize", "top_k"]
    assert default_answer_steps(("a", "b"), logits, None)[1:] == (
        {"op": "softmax"},
        {"op": "top_k", "k": 2, "threshold": 0.0},
    )
    assert default_answer_steps(None, logits, None) == ({"op": "dequantize"},)


def test_new_code_of_the_format_packs_again_and_trains_nothing_again() -> None:
    every_stage = {file.name for file in code_files()}
    only_the_bundle = {file.name for file in code_files(BUNDLE_CODE)}

    assert {"archive.py", "manifest.py", "bom.py", "postprocess.py", "described.py"} <= only_the_bundle
    assert not {"archive.py", "bom.py", "described.py"} & every_stage
    assert {"quantize.py", "preprocess.py", "golden.py"} <= every_stage
