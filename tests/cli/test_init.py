"""`edgepack init` writes a recipe that is valid, complete and never in the place of another."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from pydantic import BaseModel

from edgepack.cli.found import find_factories, find_weights
from edgepack.cli.reference import sections_in
from edgepack.cli.starter import MARK, toml_value
from edgepack.data.samples import plain_steps
from edgepack.data.sections import open_provider
from edgepack.methods import METHODS
from edgepack.recipe import Recipe, load_recipe

Run = Callable[..., Result]
MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=3): ...

class Needs(nn.Module):
    def __init__(self, width): ...

def build(): ...
def helper(): ...
def typed(width: int = 3) -> nn.Module: ...
def create_model(width): ...
"""


def read(folder: Path) -> Recipe:
    """The recipe, with every provider, step and method decoded."""
    recipe = load_recipe(folder)
    for section in (recipe.data.train, recipe.data.evaluation):
        assert section is not None
        open_provider(section, folder=folder)
    plain_steps(recipe.preprocess)
    for step in recipe.compress:
        kind: Any = METHODS.load(step.method)
        kind.model_validate(step.options())
    return recipe


@pytest.mark.parametrize(
    ("options", "factory", "weights", "shape", "marks"),
    [
        ([], "model:build", None, (1, 28, 28), 4),
        (["--input-shape", "3,224,224"], "model:build", None, (3, 224, 224), 3),
        (["--input-shape", "16x8", "--factory", "a.b:c"], "a.b:c", None, (16, 8), 2),
        (["--weights", "w.pt", "--factory", "a:b"], "a:b", "w.pt", (1, 28, 28), 3),
    ],
)
def test_the_file_is_valid_for_any_options(
    run: Run, tmp_path: Path, options: list[str], factory: str, weights: str | None, shape: tuple[int, ...], marks: int
) -> None:
    text = run("init", tmp_path / "my net", *options).stdout

    recipe = read(tmp_path / "my net")
    assert recipe.model.factory == factory
    assert recipe.model.weights == weights
    assert recipe.model.inputs[0].shape == shape
    assert recipe.bundle.name == "my-net"
    assert (tmp_path / "my net" / "edgepack.toml").read_text().count(MARK) == marks
    assert f"fill in {marks} marked places" in text


def test_its_defaults_are_the_recipes(run: Run, tmp_path: Path) -> None:
    run("init", tmp_path)

    recipe = read(tmp_path)
    assert recipe.budget == Recipe.model_fields["budget"].default
    assert recipe.fidelity == Recipe.model_fields["fidelity"].default
    assert recipe.targets == Recipe.model_fields["targets"].default


def test_every_option_is_in_it(run: Run, tmp_path: Path) -> None:
    run("init", tmp_path)

    lines = (tmp_path / "edgepack.toml").read_text().splitlines()
    missing = [key for key in keys(Recipe) if not any(line.removeprefix("# ").startswith(f"{key} =") for line in lines)]
    assert missing == []


def keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = list(sections_in(field.annotation))
        for section in inner:
            yield from keys(section)
        if not inner:
            yield name


def test_a_commented_default_can_be_uncommented(run: Run, tmp_path: Path) -> None:
    """Each '# key = default' is TOML, and what the option is without it."""
    run("init", tmp_path)

    defaults = []
    for line in (tmp_path / "edgepack.toml").read_text().splitlines():
        key, equals, value = line.removeprefix("# ").partition(" = ")
        if line.startswith("# ") and equals and key.isidentifier() and value:
            defaults += tomllib.loads(f"{key} = {value}")
    assert len(defaults) > 3


def test_a_recipe_is_never_overwritten_unasked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "edgepack.toml").write_text("mine")

    message = run("init", tmp_path, code=2).stderr

    assert "edgepack.toml: exists already; --force writes over it" in message
    assert (tmp_path / "edgepack.toml").read_text() == "mine"
    run("init", tmp_path, "--force")
    assert read(tmp_path)


def test_what_the_folder_has_is_suggested(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    (tmp_path / "broken.py").write_text("def build(:")
    (tmp_path / "weights").mkdir()
    for name in ("a.pt", "weights/b.safetensors"):
        (tmp_path / name).touch()

    text = run("init", tmp_path).stdout

    recipe = read(tmp_path)
    assert (recipe.model.factory, recipe.model.weights) == ("net:build", "weights/b.safetensors")
    assert "found factory: net:build (also seen: net:typed, net:Net)" in text
    assert "found weights: weights/b.safetensors (also seen: a.pt)" in text


def test_a_model_file_is_suggested_where_no_factory_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("net.onnx", "models/net.pt2", "weights.safetensors"):
        (tmp_path / name).touch()

    text = run("init", tmp_path).stdout

    assert (read(tmp_path).model.file, read(tmp_path).model.inputs) == ("net.onnx", ())
    assert "found model file: net.onnx (also seen: models/net.pt2)" in text
    (tmp_path / "net.py").write_text(MODEL)
    run("init", tmp_path, "--force")
    assert read(tmp_path).model.factory == "net:build"
    run("init", tmp_path, "--force", "--file", "models/net.pt2", "--input-shape", "3,8,8")
    assert (read(tmp_path).model.file, read(tmp_path).model.inputs[0].shape) == ("models/net.pt2", (3, 8, 8))
    assert (
        "leave out --factory" in run("init", tmp_path, "--force", "--file", "a.onnx", "--factory", "a:b", code=2).stderr
    )


def test_a_factory_is_looked_for_without_running_anything(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL + "\nraise SystemExit('imported')\n")

    assert find_factories(tmp_path) == ["net:build", "net:typed", "net:Net"]
    assert find_weights(tmp_path) == []


@pytest.mark.parametrize("wrong", [["--input-shape", "3,x"], ["--input-shape", "0,2"]])
def test_a_wrong_shape_is_refused(run: Run, tmp_path: Path, wrong: list[str]) -> None:
    assert "is no shape" in run("init", tmp_path, *wrong, code=2).stderr


def test_a_wrong_factory_is_refused(run: Run, tmp_path: Path) -> None:
    assert "must look like 'module:function'" in run("init", tmp_path, "--factory", "model.py", code=3).stderr
    assert not (tmp_path / "edgepack.toml").exists()


@pytest.mark.parametrize("value", [True, 3, 0.0001, 1e-9, 'a "b" \\ ü', [1, ["x"]], {"a": {"b": []}}, {}])
def test_values_are_spelled_as_toml(value: object) -> None:
    assert tomllib.loads(f"key = {toml_value(value)}") == {"key": value}
