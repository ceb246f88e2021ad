"""The example on a part of its data: what PTQ costs and what the file keeps."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edgepack.pipeline import build

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "resnet20_cifar10"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    if "EDGEPACK_TEST_DATA" not in os.environ:
        pytest.skip("EDGEPACK_TEST_DATA is not set")
    folder = shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns(".edgepack", "dist"))
    recipe = folder / "edgepack.toml"
    recipe.write_text(
        recipe.read_text()
        .replace("count = 300 ", "count = 100 ")
        .replace("[data.evaluation]\n", "[data.evaluation]\ncount = 1000\n")
        .replace("drop_points = 0.5 ", "drop_points = 1.0 ")  # 1,000 images can't tell half a point
        .replace("top1_agreement_min = 0.995", "top1_agreement_min = 0.99")
    )
    return folder


@pytest.mark.data
def test_int8_keeps_what_the_float_model_knows(project: Path) -> None:
    bundle = build(project)

    checks = {check.name: check.value for check in bundle.variant().checks}
    assert bundle.variant().metric is not None
    assert bundle.variant().metric.samples == 1000
    assert bundle.variant().metric.float_value == pytest.approx(0.8662, abs=0.02)
    assert checks["top1_agreement"] >= 0.99
    assert checks["mean_steps"] <= 0.5
    assert checks["extra_operators"] == 0
