"""The text example in int8 and with 4 bits a weight, and its transformer, with and without GPTQ and AWQ: accuracy, precision, recall, F1 and bytes, on LiteRT, OpenVINO and ONNX Runtime."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.places import EXAMPLES, edgepack, measured
from edgepack.bundle import Bundle, read_bundle
from edgepack.bundle.manifest import Variant
from edgepack.codec.wire_write import pack_wire
from edgepack.pipeline import build_all
from edgepack.recipe import CompressStep, load_recipe

FOLDER = EXAMPLES / "sentiment"
TRANSFORMER = "transformer.toml"
RECIPES = {"int8": "edgepack.toml", "int4": "int4.toml", "transformer, int4": TRANSFORMER}
DROP_POINTS_MAX, INT4_SHARE_MAX = 1.0, 0.6


def run() -> None:
    """Train the network, build (or reuse) both recipes for all targets, and print one table."""
    if "EDGEPACK_TEST_DATA" not in os.environ:
        print("left out: EDGEPACK_TEST_DATA is not set")
        return
    for recipe in ("edgepack.toml", TRANSFORMER):
        measured(sys.executable, str(FOLDER / "train.py"), "--recipe", str(FOLDER / recipe))
    names = ("target", "accuracy", "precision", "recall", "F1", "float F1", "drop of F1 (95 % CI)", "file", "packed")
    table = Table("weights", *names, "file ÷ int8's", "goal", title="600 test sentences; one is 0.17 points")
    sizes: dict[str, int] = {}
    built = {kind: _built(FOLDER / recipe) for kind, recipe in RECIPES.items()}
    for options in (("gptq",), ("awq",), ("awq", "gptq")):
        built[", ".join(("transformer, int4", *options))] = _with(options)
    for kind, bundles in built.items():
        for bundle in bundles:
            variant = bundle.variant()
            size = variant.model.total_bytes
            share = size / sizes.setdefault(variant.target, size) if kind in ("int8", "int4") else None
            shown = "" if share is None else f"{share:.3f}"
            table.add_row(kind, *_cells(variant, bundle), shown, _verdict(variant, share if kind == "int4" else None))
    Console(width=190).print(table)


def _built(recipe: Path) -> list[Bundle]:
    """A bundle for each target of the recipe."""
    command = edgepack("build", "--recipe", str(recipe), "--allow-failed-checks", "--json")
    return [read_bundle(Path(one["bundle"])) for one in json.loads(measured(*command).output)["bundles"]]


def _with(options: tuple[str, ...]) -> list[Bundle]:
    """The transformer's recipe with options more; prints what AWQ leaves of the error."""
    recipe = load_recipe(FOLDER / TRANSFORMER)
    more = dict.fromkeys(options, True)
    steps = tuple(
        CompressStep.model_validate({"method": step.method, **step.options(), **more}) for step in recipe.compress
    )
    named = recipe.bundle.model_copy(update={"name": "-".join((recipe.bundle.name, *options))})
    changed = recipe.model_copy(update={"compress": steps, "bundle": named})
    bundles = list(build_all(changed, folder=FOLDER, allow_failed_checks=True).bundles)
    (step,) = [dict(one) for one in bundles[0].variant().lineage["steps"]]  # type: ignore[union-attr, arg-type, call-overload]
    if "awq" in options:
        shares, without = step["awq_scales"]["error_shares"], step["awq_scales"]["without"]
        print(
            f"{', '.join(options)}: of the squared error of these layers' outputs that rounding alone leaves, awq leaves"
        )
        print("  " + ", ".join(f"{name} {share:.2f}" for name, share in shares.items()))
        print("  without scales: " + ", ".join(f"{name} ({why})" for name, why in without.items()))
    return bundles


def _cells(variant: Variant, bundle: Bundle) -> tuple[str, ...]:
    metric, drop = variant.metric, _drop(variant)
    assert metric is not None and metric.float_value is not None and drop.ci95 is not None
    values = {one.name: f"{one.value:.2%}" for one in metric.all}
    files = {Path(file.path).name: bundle.read(file.path) for file in variant.model.files}
    packed = sum(len(pack_wire(data, name, beside=files.get).wire) for name, data in files.items())
    return (
        variant.target,
        *(values[name] for name in ("top1", "precision", "recall", "f1")),
        f"{metric.float_value:.2%}",
        f"{drop.value:+.2f} ({drop.ci95[0]:+.2f} … {drop.ci95[1]:+.2f})",
        f"{variant.model.total_bytes:,}",
        f"{packed:,}",
    )


def _verdict(variant: Variant, share: float | None) -> str:
    if share is None:
        return f"drop ≤ {DROP_POINTS_MAX}: {'met' if _drop(variant).value <= DROP_POINTS_MAX else 'NOT MET'}"
    return f"≤ {INT4_SHARE_MAX} of int8's bytes: {'met' if share <= INT4_SHARE_MAX else 'NOT MET'}"


def _drop(variant: Variant) -> Any:
    return next(check for check in variant.checks if check.name == "drop_points")
