"""A bundle says of its weights and activations what its files hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner
from small_project import PTQ, Project

INT4 = PTQ + 'weights_bits = 4\nint8_layers = ["stem"]\n'
WEIGHTS = '[[compress]]\nmethod = "compress_weights"\n'
WIDE = PTQ + "activations_bits = 16\n"


@pytest.mark.parametrize(
    ("steps", "target", "word", "in_words"),
    [
        pytest.param(INT4, "arm64", "int4+int8", "int4 and int8 weights, int8 activations", id="int4"),
        pytest.param(INT4, "arm64-legacy", "int8", "int8", id="int4 in int8", marks=pytest.mark.slow),
        pytest.param(WEIGHTS, "intel", "int8-weights", "int8 weights, float activations", id="weights"),
        pytest.param(WIDE, "arm64", "int8x16", "int8 weights, int16 activations", id="wide", marks=pytest.mark.slow),
        pytest.param(PTQ, "intel", "int8", "int8", id="int8", marks=pytest.mark.slow),
        pytest.param("", "x86_64", "float32", "float32", id="float", marks=pytest.mark.slow),
    ],
)
def test_the_manifest_the_card_and_inspect_say_what_the_files_hold(
    steps: str, target: str, word: str, in_words: str, tiny_project: Callable[..., Project]
) -> None:
    from edgepack.cli import app
    from edgepack.pipeline import build

    bundle = build(tiny_project(steps).folder, target=target, allow_failed_checks=True)

    model = bundle.variant().model
    assert model.precision == word
    assert f"`{model.path}`, {in_words}, " in bundle.read("README.md").decode()
    told = CliRunner().invoke(app, ["inspect", str(bundle.path)], env={"COLUMNS": "200"}).output
    assert f"{model.format}, {in_words}, " in " ".join(told.split())
