"""`edgepack explain`: tables, JSON, CSV and the page."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from small_project import PTQ, Project

Run = Callable[..., Result]
LAYERS = {"stem.0", "block.0", "block.3", "down.0", "classifier"}


@pytest.fixture
def bundle(built_project: Callable[[str], Project]) -> Path:
    (path,) = (built_project(PTQ).folder / "dist").glob("*.edgepack")
    return path


def test_explain_shows_every_layer_with_totals_and_what_they_mean(run: Run, bundle: Path) -> None:
    shown = run("explain", bundle).stdout

    assert all(name in shown for name in (*LAYERS, "5 layers", "bits/weight", "meaning"))
    assert shown.index("down.0") < shown.index("block.0")  # the costliest first


def test_explain_sorts_and_cuts_as_asked(run: Run, bundle: Path) -> None:
    shown = run("explain", bundle, "--sort", "order", "--top", "2").stdout

    assert shown.index("stem.0") < shown.index("block.0")
    assert "classifier" not in shown.partition("5 layers")[0]


@pytest.mark.parametrize("columns", [44, 60, 80, 120, 200])
def test_explain_breaks_no_line_on_a_narrow_terminal(call: Run, bundle: Path, columns: int) -> None:
    shown = call("explain", bundle, COLUMNS=str(columns)).stdout
    table = shown.partition("╯")[0]

    assert all(len(line) <= columns for line in shown.splitlines())
    assert all(any(name in line for line in table.splitlines()) for name in LAYERS)
    assert "bits/weight" in table


def test_explain_json_is_one_object_with_every_number(run: Run, bundle: Path) -> None:
    content = json.loads(run("explain", bundle, "--json").stdout)
    (model,) = content["models"]

    assert content["schema"] == "edgepack.explain/1"
    assert {layer["name"] for layer in model["layers"]} == LAYERS
    assert model["description_bits"] > 0
    assert model["totals"]["parameters"] == sum(layer["parameters"] for layer in model["layers"])


def test_explain_writes_a_table_and_a_page(run: Run, bundle: Path, tmp_path: Path) -> None:
    table, page = tmp_path / "layers.csv", tmp_path / "explained.html"

    run("explain", bundle, bundle, "--csv", table, "--html", page, "--profile", "fast")

    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(LAYERS)
    assert {row["name"] for row in rows} == LAYERS
    assert "tiny 1.0.0 arm64 (2)" in page.read_text(encoding="utf-8")


def test_explain_sets_models_side_by_side(run: Run, bundle: Path) -> None:
    shown = run("explain", bundle, bundle, "--profile", "fast").stdout

    (head,) = [line for line in shown.splitlines() if "layer" in line and "(2)" in line]
    assert "tiny 1.0.0 arm64" in head
    (row,) = [line for line in shown.splitlines() if "down.0" in line]
    assert row.count("kB") == 2 or row.count(" B") == 2


def test_explain_of_something_that_is_no_bundle_says_so(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.edgepack"
    path.write_bytes(b"nothing")

    assert "model.edgepack" in run("explain", path, code=10).stderr


def test_explain_measures_losses_and_steps_when_asked(run: Run, bundle: Path, tmp_path: Path) -> None:
    asked = ("--points", "--bits", "3", "--steps", "--profile", "fast", "--sort", "share")
    shown = run("explain", bundle, *asked, "--csv", tmp_path / "layers.csv").stdout

    assert all(word in shown for word in ("sensitivity", "share", "points", "3 bits", "rounded activations"))
    assert "After each step" in shown and "original" in shown and "quantize" in shown
    with (tmp_path / "layers.steps.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["original", "quantize"]


def test_bits_without_sensitivity_are_refused(run: Run, bundle: Path) -> None:
    assert "--sensitivity" in run("explain", bundle, "--bits", "4", code=2).stderr
