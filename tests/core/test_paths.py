from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_project import PTQ, Project

from edgepack.core.errors import SourceError
from edgepack.core.paths import expand
from edgepack.plan import make_plan
from edgepack.recipe import ModelSection
from edgepack.sources import kind_of
from edgepack.sources.signature import model_path


def test_a_path_is_relative_to_the_recipe_unless_it_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELSEWHERE", "/else")
    monkeypatch.setenv("HOME", "/home/me")
    folder = Path("/recipe")

    assert expand("a/b", folder=folder, error=SourceError) == folder / "a/b"
    assert expand("/a/b", folder=folder, error=SourceError) == Path("/a/b")
    assert expand("${ELSEWHERE}/b", folder=folder, error=SourceError) == Path("/else/b")
    assert expand("~/b", folder=folder, error=SourceError) == Path("/home/me/b")


def test_weights_may_lie_where_a_variable_says(
    tiny_project: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tiny_project(PTQ, weights="${OF_MY_MODEL}/moved.safetensors")
    (project.folder / "weights.safetensors").rename(tmp_path / "moved.safetensors")

    monkeypatch.setenv("OF_MY_MODEL", str(tmp_path))
    make_plan(project.folder)

    monkeypatch.delenv("OF_MY_MODEL")
    with pytest.raises(SourceError, match="'OF_MY_MODEL' is not set"):
        make_plan(project.folder)


def test_a_model_file_may_lie_where_a_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    section = ModelSection(file="${OF_MY_MODEL}/model.pt2")
    (tmp_path / "model.pt2").write_bytes(b"x")

    monkeypatch.setenv("OF_MY_MODEL", str(tmp_path))
    assert kind_of(section, Path("/recipe")) == "torch_export"
    assert model_path(section, Path("/recipe")) == tmp_path / "model.pt2"

    monkeypatch.delenv("OF_MY_MODEL")
    with pytest.raises(SourceError, match="'OF_MY_MODEL' is not set"):
        kind_of(section, Path("/recipe"))
