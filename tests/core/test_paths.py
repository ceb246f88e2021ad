from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_project import PTQ, Project

from edgepack.core.errors import SourceError
from edgepack.core.paths import expand
from edgepack.plan import make_plan


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
