"""A target for an old runtime refuses what that runtime can't open, before training, and its table is the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_project import Project
from torch import nn

from benchmarks.operator_versions import highest
from edgepack.core.errors import EnvironmentProblem, RecipeError, UnsupportedError
from edgepack.core.types import Samples, Silent, TensorSpec
from edgepack.exporters.litert import LiteRTExporter
from edgepack.exporters.litert_versions import HIGHEST_VERSIONS, check_versions
from edgepack.network.model import Model
from edgepack.plan import make_plan
from edgepack.runtimes.tflite_runtime import TfliteRuntime
from edgepack.targets import load_target

OLD = "tflite-runtime 2.14"


class Half(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.half() * 3).float()


class HalfInside(nn.Module):
    """A product in float16 is version 8 of MUL, which came after the old runtime."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scaled = nn.Conv2d(1, 4, 3), Half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scaled(self.conv(x)).mean((2, 3))


def with_versions(source: Path, version: int) -> bytes:
    """A copy of a file in which every operator has that version."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(source))
    for code in model.operatorCodes:
        code.version = version
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def test_the_table_is_what_the_old_runtime_says() -> None:
    try:
        python = TfliteRuntime().interpreter()
    except EnvironmentProblem as exc:
        pytest.skip(str(exc))

    assert HIGHEST_VERSIONS[OLD] == highest(python, "tflite_runtime")


def test_versions_that_the_old_runtime_knows_pass(tiny_tflite: Path) -> None:
    check_versions(tiny_tflite.read_bytes(), OLD)


def test_a_newer_version_is_refused_by_operator_version_and_place(tiny_tflite: Path) -> None:
    with pytest.raises(UnsupportedError) as caught:
        check_versions(with_versions(tiny_tflite, 11), OLD)

    text = str(caught.value)
    assert "CONV_2D version 11 at '1' (it knows up to 7)" in text  # with the relu, module 1 of a Sequential
    assert "FULLY_CONNECTED version 11 at '" in text
    assert "arm64" in text


def test_an_operator_that_is_too_new_stops_the_build_before_training(tmp_path: Path) -> None:
    spec, out = TensorSpec(name="x", shape=(1, 1, 12, 12)), TensorSpec(name="y", shape=(1, 4))
    torch.manual_seed(0)
    model = Model(network=HalfInside().eval(), build=HalfInside, inputs=(spec,), outputs=(out,))
    probe = Samples(inputs={"x": np.random.default_rng(0).normal(size=(1, 1, 12, 12)).astype(np.float32)})

    LiteRTExporter().check(model, probe, tmp_path, constraints=None, progress=Silent())
    with pytest.raises(UnsupportedError, match=r"MUL version 8 at 'scaled' \(it knows up to 7"):
        LiteRTExporter(oldest_runtime=OLD).check(model, probe, tmp_path, constraints=None, progress=Silent())


def test_the_legacy_target_asks_for_the_check() -> None:
    assert load_target("arm64-legacy").exporter_options["oldest_runtime"] == OLD


def test_an_unknown_oldest_runtime_is_refused_at_plan_time(tiny_project: Callable[..., Project]) -> None:
    project = tiny_project()
    (project.folder / "targets").mkdir()
    own = 'description = "d"\nexporter = "litert"\nruntime = "litert"\n[exporter_options]\noldest_runtime = "{}"\n'
    (project.folder / "targets" / "own.toml").write_text(own.format("tflite-runtime 2.41"))

    with pytest.raises(RecipeError, match=r"oldest_runtime: no table .*did you mean 'tflite-runtime 2\.14'"):
        make_plan(project.folder, target="own")
