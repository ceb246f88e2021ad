"""Kits of models that are no classifiers of images: numbers in, numbers out, no labels, no golden samples."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from app_bundles import OUTPUT_GRID, app_bundle

from edgepack.appkit.make import make_appkit
from edgepack.bundle import Bundle, read_bundle

STEPS = ({"op": "to_float"}, {"op": "normalize", "mean": 0.5, "std": 2.0})


def regression(folder: Path, format_name: str) -> Bundle:
    """A model that takes 36 numbers and gives 4."""
    opened = read_bundle(app_bundle(folder, format_name))
    variant = opened.manifest.variants[0].model_copy(update={"golden": None})
    files = tuple(one for one in opened.manifest.files if one.path != "labels.txt")
    changes = {"labels": None, "preprocess": STEPS, "postprocess": ({"op": "dequantize"},), "files": files}
    manifest = opened.manifest.model_copy(update={**changes, "variants": (variant,)})
    return Bundle(path=opened.path, manifest=manifest, layout=opened.layout)


def run(*command: object, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [str(one) for one in command], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def test_the_python_package_gives_real_values(tmp_path: Path) -> None:
    make_appkit(regression(tmp_path / "bundle", "onnx"), "python", tmp_path / "kit")
    values = np.random.default_rng(1).standard_normal((1, 6, 6)).astype(np.float32)
    np.save(tmp_path / "kit" / "sample.npy", values)

    told = run(sys.executable, "-m", "wading_birds", "--json", "sample.npy", cwd=tmp_path / "kit", PYTHONPATH="src")
    run(sys.executable, "-m", "unittest", "discover", "tests", cwd=tmp_path / "kit", PYTHONPATH="src")
    types = ["mypy", "--strict", "--cache-dir", tmp_path / "cache", "src"]
    run(sys.executable, "-m", *types, cwd=tmp_path / "kit")

    answer: list[float] = json.loads(told)["answer"]
    assert len(answer) == 4
    scale, zero_point = OUTPUT_GRID["scale"][0], OUTPUT_GRID["zero_point"][0]
    codes = np.array(answer) / scale + zero_point
    assert np.array_equal(codes, np.round(codes))


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
@pytest.mark.parametrize("format_name", ["onnx", "tflite"])
def test_the_cpp_code_compiles(format_name: str, tmp_path: Path) -> None:
    make_appkit(regression(tmp_path / "bundle", format_name), "cpp", tmp_path / "kit")
    folders = ["-Iinclude", "-Isrc", "-Isteps", "-Iwire", "-Ithird_party"]
    strict = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]

    sources = ["src/wading_birds.cpp", "src/wire.cpp", "examples/classify.cpp", "tests/golden_test.cpp"]
    run("g++", *strict, *folders, *sources, cwd=tmp_path / "kit")

    header = (tmp_path / "kit" / "include" / "wading_birds" / "wading_birds.h").read_text(encoding="utf-8")
    assert "std::vector<float> predict(const Sample& sample) const;" in header
    assert "Prediction" not in header
