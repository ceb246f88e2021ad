"""Every example is whole: its recipes are valid, its files are there, and its model fits its recipe."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgepack.core.section import validate
from edgepack.data.samples import plain_steps
from edgepack.data.sections import open_provider, resolve_section
from edgepack.methods import METHODS
from edgepack.pipeline import build
from edgepack.recipe import load_recipe
from edgepack.targets import load_target

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FOLDERS = sorted(folder for folder in EXAMPLES.iterdir() if folder.is_dir())
RECIPES = sorted(EXAMPLES.glob("*/*.toml"))
_OPTION_WITH_VALUE = "--recipe"


@pytest.mark.parametrize("recipe_file", RECIPES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_recipe_resolves_without_its_data(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)

    for role in ("train", "calibration", "evaluation"):
        section = getattr(recipe.data, role)
        if section is not None:
            open_provider(resolve_section(section, folder=recipe_file.parent), folder=recipe_file.parent, role=role)
    plain_steps(recipe.preprocess)
    for index, step in enumerate(recipe.compress):
        method = validate(METHODS.load(step.method), step.options(), where=f"compress.{index}")
        assert recipe.data.train is not None or not method.needs_training_samples
    for target in recipe.targets:
        load_target(target, recipe_file.parent)


@pytest.mark.parametrize("recipe_file", RECIPES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_recipe_names_files_that_exist(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)

    if recipe.model.factory:
        module = recipe.model.factory.partition(":")[0]
        assert (recipe_file.parent / f"{module}.py").is_file()
    if isinstance(recipe.bundle.labels, str):
        assert len((recipe_file.parent / recipe.bundle.labels).read_text().splitlines()) == 10


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_bundles_of_an_example_have_different_names(folder: Path) -> None:
    names = [load_recipe(file).bundle.name for file in folder.glob("*.toml")]

    assert len(set(names)) == len(names) > 0


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_commands_of_the_readme_name_what_exists(folder: Path) -> None:
    commands = _commands(folder / "README.md")
    bundles = {_bundle_of(file) for file in folder.glob("*.toml")}

    assert ["edgepack", "build"] in commands
    for words in commands:
        if words[0] == "python":
            assert (folder / words[1]).is_file(), words
        if words[0] == "cd":
            assert (EXAMPLES.parent / words[1]).resolve() == folder, words
        if words[:2] in (["edgepack", "inspect"], ["edgepack", "bench"]):
            assert words[2] in bundles, words
        if _OPTION_WITH_VALUE in words:
            assert (folder / words[words.index(_OPTION_WITH_VALUE) + 1]).is_file(), words


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files_of_the_readme_exist(folder: Path) -> None:
    listed = re.findall(r"^\| `([\w.]+)` \|", (folder / "README.md").read_text(), re.MULTILINE)

    assert listed
    assert [name for name in listed if not (folder / name).is_file()] == []


@pytest.mark.parametrize("name", ["digits", "fashion_mnist", "resnet20_cifar10"])
def test_factory_gives_one_score_per_class(name: str) -> None:
    torch = pytest.importorskip("torch")
    recipe = load_recipe(EXAMPLES / name)
    network = _module(EXAMPLES / name / "model.py").make(**recipe.model.args).eval()

    with torch.inference_mode():
        scores = network(torch.zeros(2, *recipe.model.inputs[0].shape))

    assert scores.shape == (2, 10)
    assert 100_000 < sum(p.numel() for p in network.parameters()) < 300_000


def test_weights_are_known_without_torch(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    train = _module(EXAMPLES / "digits" / "train.py")
    save_file({"x": np.zeros(1)}, tmp_path / "w.safetensors", metadata={"digest": "a", "facts": "good"})

    assert train.facts_of(tmp_path / "w.safetensors", "a") == "good"
    assert train.facts_of(tmp_path / "w.safetensors", "b") == ""
    assert train.facts_of(tmp_path / "none", "a") == ""


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_training_script_starts_without_torch(name: str) -> None:
    code = "import sys, train; sys.exit('torch' in sys.modules)"

    outcome = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES / name, timeout=60)

    assert outcome.returncode == 0


def test_a_damaged_weights_file_counts_as_missing(tmp_path: Path) -> None:
    train = _module(EXAMPLES / "digits" / "train.py")
    (tmp_path / "w.safetensors").write_bytes(b"\x01" * 7)

    assert train.facts_of(tmp_path / "w.safetensors", "a") == ""


@pytest.fixture
def part_of_resnet20(tmp_path: Path) -> Path:
    """The example with a part of its data."""
    if "EDGEPACK_TEST_DATA" not in os.environ:
        pytest.skip("EDGEPACK_TEST_DATA is not set")
    source = EXAMPLES / "resnet20_cifar10"
    folder = shutil.copytree(source, tmp_path / "example", ignore=shutil.ignore_patterns(".edgepack", "dist"))
    recipe = folder / "edgepack.toml"
    recipe.write_text(
        recipe.read_text()
        .replace("count = 300 ", "count = 100 ")
        .replace("[data.evaluation]\n", "[data.evaluation]\ncount = 1000\n")
        .replace("drop_points = 0.5 ", "drop_points = 1.0 ")  # 1,000 images can't tell half a point
        .replace("top1_agreement_min = 0.995", "top1_agreement_min = 0.99")
    )
    return folder


# In a file of its own it would be the last one to begin (files with most tests go first), and the other process would wait for it.
@pytest.mark.data
def test_resnet20_in_int8_keeps_what_the_float_model_knows(part_of_resnet20: Path) -> None:
    bundle = build(part_of_resnet20)

    checks = {check.name: check.value for check in bundle.variant().checks}
    assert bundle.variant().metric is not None
    assert bundle.variant().metric.samples == 1000
    assert bundle.variant().metric.float_value == pytest.approx(0.8662, abs=0.02)
    assert checks["top1_agreement"] >= 0.99
    assert checks["mean_steps"] <= 0.5
    assert checks["extra_operators"] == 0


def _commands(readme: Path) -> list[list[str]]:
    """The indented lines of a README that are commands, as words without comments."""
    known = ("cd", "python", "edgepack", "pip", "export", "sudo", "apt-get", "dpkg")
    lines = re.findall(r"^    (\S.*)$", readme.read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines if line.split()[0] in known]


def _bundle_of(recipe_file: Path) -> str:
    recipe = load_recipe(recipe_file)
    return f"dist/{recipe.bundle.name}-{recipe.bundle.version}-{recipe.targets[0]}.edgepack"


def _module(file: Path) -> ModuleType:
    """A module under a name of its own: every example has a model.py."""
    spec = importlib.util.spec_from_file_location(f"_example_{file.parent.name}_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
