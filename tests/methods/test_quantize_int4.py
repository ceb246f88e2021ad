"""Weights of four bits: codes that fit, zeros and levels that stay, files that hold two in a byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from methods.test_palettize import shared
from methods.test_prune_channels import context, tiny

from edgepack.bundle.update_base import Base
from edgepack.core.errors import RecipeError
from edgepack.core.section import validate
from edgepack.methods.prune_entropy import PruneEntropy
from edgepack.methods.prune_magnitude import PruneMagnitude
from edgepack.methods.quantize import Quantize
from edgepack.network.fold import program_of
from edgepack.network.model import Model, load_model, predict, save_model
from edgepack.network.program import Layer

TRAIN = {"steps": 6, "batch_size": 8, "learning_rate": 1e-3}


def quantized(model: Model, folder: Path, **options: Any) -> Model:
    folder.mkdir(exist_ok=True)
    given = {"mode": "ptq", "weights_bits": 4, **options}
    return Quantize.model_validate(given).apply(model, context(tiny(), folder))


def layers(model: Model) -> dict[str, Layer]:
    return {layer.name: layer for layer in program_of(model).layers}


def largest(layer: Layer) -> int:
    assert layer.codes is not None
    return int(np.abs(layer.codes.astype(int)).max())


@pytest.mark.parametrize("options", [{}, {"mode": "qat", "train": TRAIN}], ids=["ptq", "qat"])
def test_codes_lie_within_seven_but_those_of_int8_layers(options: dict[str, Any], tmp_path: Path) -> None:
    done = quantized(tiny(), tmp_path, int8_layers=["stem.0"], **options)

    found = layers(done)
    assert {name for name, layer in found.items() if layer.params and layer.params.dtype == "int8"} == {"stem.0.weight"}
    assert largest(found["stem.0.weight"]) > 64
    assert all(largest(layer) <= 7 for name, layer in found.items() if name != "stem.0.weight")
    assert done.lineage[-1]["int4_weights"] == sorted(found.keys() - {"stem.0.weight"})
    assert done.lineage[-1]["weight_bytes"] < sum(layer.weight.size for layer in found.values())


def test_the_choice_survives_a_round_through_a_file(tmp_path: Path) -> None:
    done = quantized(tiny(), tmp_path, int4_share=0.5)
    (tmp_path / "saved").mkdir()

    save_model(done, tmp_path / "saved")
    again = load_model(tiny().build, tmp_path / "saved")

    assert again.int4 == done.int4 and done.int4
    samples = context(tiny(), tmp_path).calibration
    assert all(
        np.array_equal(a, b)
        for a, b in zip(predict(done, samples).values(), predict(again, samples).values(), strict=True)
    )


def test_pruned_zeros_stay_zero(tmp_path: Path) -> None:
    pruned = PruneMagnitude.model_validate({"sparsity": 0.5, "train": TRAIN}).apply(tiny(), context(tiny(), tmp_path))
    masked = {name: layer.weight == 0 for name, layer in layers(pruned).items()}

    done = quantized(pruned, tmp_path / "qat", mode="qat", train=TRAIN)

    for name, layer in layers(done).items():
        assert layer.codes is not None and not layer.codes[masked[name]].any()


@pytest.mark.slow
def test_weights_with_few_levels_keep_them_and_take_four_bits(tmp_path: Path) -> None:
    few = PruneEntropy.model_validate({"sparsity": 0.3, "levels": 3, "train": TRAIN, "ignore": ["classifier.weight"]})
    model = few.apply(tiny(), context(tiny(), tmp_path))

    done = quantized(model, tmp_path / "ptq")

    found = layers(done)
    assert all(layer.params and layer.params.dtype == "int4" for layer in found.values())
    assert all(largest(found[name]) <= 3 for name in model.levels if name in found)


@pytest.mark.slow
def test_shared_values_stay_int8(tmp_path: Path) -> None:
    model = shared(tiny(), tmp_path, ignore=["down.0.weight"])

    done = quantized(model, tmp_path / "ptq")

    assert done.int4 == {"down.0.weight"}
    assert all(largest(layer) == 127 for name, layer in layers(done).items() if name != "down.0.weight")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"int4_share": 0.5}, "'int4_share' divides weights of 4 and of 8 bits; set weights_bits = 4"),
        ({"int8_layers": ["stem"]}, "'int8_layers' divides weights"),
        ({"weights_bits": 4, "int4_share": 0.5, "max_weight_bytes": 9}, "leave one of them out"),
        ({"weights_bits": 4, "int4_share": 1.5}, "int4_share: .*less than or equal to 1"),
        ({"weights_bits": 3}, "weights_bits: "),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        validate(Quantize, {"mode": "ptq", **options}, where="test")


def base_of(model: Model) -> Base:
    made = program_of(model)
    return Base(
        path=Path("x"), sha256="", name="a", version="1", target="arm64", targets=("arm64",), constraints={}, grid=made.grid,
        inputs=(), codes=made.codes,
    )  # fmt: skip


def test_an_update_of_the_same_network_keeps_every_code(tmp_path: Path) -> None:
    base = quantized(tiny(), tmp_path / "base", int8_layers=["stem.0"])
    given = replace(context(tiny(), tmp_path), base=base_of(base))

    done = Quantize.model_validate({"mode": "ptq", "weights_bits": 4}).apply(tiny(), given)

    ours, theirs = layers(done), layers(base)
    assert done.int4 == base.int4 and done.int4
    assert all(np.array_equal(ours[name].codes, theirs[name].codes) for name in base.int4)
