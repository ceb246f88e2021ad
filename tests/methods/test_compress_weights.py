"""Weights of few bits beside float activations: their values, and what OpenVINO and ONNX Runtime make of them."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_project import PTQ, Project
from torch import nn

from edgepack.core.errors import RecipeError, UnsupportedError
from edgepack.core.types import Samples, Silent, TensorSpec
from edgepack.exporters import EXPORTERS
from edgepack.methods.compress_weights import CompressWeights
from edgepack.methods.protocol import Context
from edgepack.network.awq import rounded
from edgepack.network.model import Model, load_model, predict, save_model
from edgepack.network.weight_grids import WeightGrid
from edgepack.plan import make_plan
from edgepack.runtimes import RUNTIMES
from edgepack.stages.precision import code_types
from edgepack.targets import load_target

WORDS, WIDTH, LENGTH = 50, 32, 6
TOKENS = np.random.default_rng(0).integers(0, WORDS, (16, LENGTH))
RUNTIME_OF = {"openvino": "openvino", "onnx": "onnxruntime"}
FORMS: dict[str, dict[str, Any]] = {
    "int8": {},
    "int8, asymmetric": {"symmetric": False},
    "int4": {"bits": 4, "int8_edges": False},
    "int4 in groups, scales estimated": {"bits": 4, "group_size": 16, "symmetric": False, "scale_estimation": True},
    "int8, gptq": {"gptq": True},
    "int4 in groups, scales estimated, gptq": {
        "bits": 4,
        "group_size": 16,
        "symmetric": False,
        "scale_estimation": True,
        "gptq": True,
    },
    "int4 in groups, awq, scales estimated, gptq": {
        "bits": 4,
        "group_size": 16,
        "symmetric": False,
        "awq": True,
        "scale_estimation": True,
        "gptq": True,
    },
}


class Attention(nn.Module):
    """table → layer norm → attention → layer norm → GELU → linear: what has no integer form"""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first_norm = nn.Embedding(WORDS, WIDTH), nn.LayerNorm(WIDTH)
        self.keys, self.values, self.norm = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.classes = nn.Linear(WIDTH, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        words = self.table(tokens)
        even = self.first_norm(words)
        seen = torch.softmax(words @ self.keys(even).transpose(1, 2), dim=-1) @ self.values(even)
        return self.classes(nn.functional.gelu(self.norm(words + seen)).mean(1))


def untrained() -> nn.Module:
    torch.manual_seed(0)
    network = Attention().eval()
    with torch.no_grad():
        network.first_norm.weight[::8] = 10  # features that are much larger than others, as in trained transformers
    return network


def compressed(**options: Any) -> Model:
    model = Model(
        network=untrained(), build=untrained, inputs=(TensorSpec(name="t", shape=(1, LENGTH), dtype="int64"),),
        outputs=(TensorSpec(name="y", shape=(1, 3)),),
    )  # fmt: skip
    samples = Samples(inputs={"t": TOKENS})
    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            original=model, train=None, calibration=samples, constraints=load_target("intel").quantization,
            workspace=Path(folder), key="text", seed=0, progress=Silent(),
        )  # fmt: skip
        return CompressWeights(**options).apply(model, context)


@functools.cache
def made(form: str) -> Model:
    return compressed(**FORMS[form])


@pytest.mark.parametrize("form", FORMS)
def test_weights_have_as_many_values_in_a_row_as_their_bits_can_tell(form: str) -> None:
    model = made(form)

    assert set(model.weight_grids) == {f"{name}.weight" for name in ("table", "keys", "values", "classes")}
    for name, grid in model.weight_grids.items():
        weight = model.network.get_parameter(name).detach().numpy()
        rows = weight.reshape(-1, 16 if grid.codes.ndim == 3 else WIDTH)
        assert max(len(np.unique(row)) for row in rows) <= 2**grid.bits
        assert np.array_equal(weight, grid.values())


@pytest.mark.parametrize("form", ["int8", "int4 in groups, scales estimated"])
def test_gptq_takes_other_codes_of_the_same_grid(form: str) -> None:
    before, after = made(form).weight_grids, made(f"{form}, gptq").weight_grids

    for name, grid in before.items():
        assert np.array_equal(after[name].scale, grid.scale)
        assert np.array_equal(after[name].zero_point, grid.zero_point)  # type: ignore[arg-type]  # None is None
    changed = {name for name in before if not np.array_equal(after[name].codes, before[name].codes)}
    assert changed >= {"keys.weight", "values.weight"}
    assert "table.weight" not in changed


def test_awq_scales_what_a_norm_gives_before_all_else_and_says_which_layers_it_leaves() -> None:
    model, before = made("int4 in groups, awq, scales estimated, gptq"), untrained()

    facts = model.lineage[-1]["awq_scales"]
    assert facts["exponents"].keys() == {"keys.weight", "values.weight"} == facts["error_shares"].keys()
    assert facts["exponents"]["keys.weight"] == facts["exponents"]["values.weight"] > 0
    assert facts["without"] == {"classes.weight": "it reads what gelu gives, which can take no scale"}
    assert model.lineage[-1]["calibration_samples"] == len(TOKENS)
    assert not torch.equal(model.network.get_parameter("first_norm.weight"), before.get_parameter("first_norm.weight"))
    assert "awq_scales" not in made("int4").lineage[-1]


@pytest.mark.parametrize("options", [{}, {"group_size": 16, "symmetric": False}], ids=["plain", "groups"])
def test_awq_judges_scales_on_the_grid_that_nncf_makes(options: dict[str, Any]) -> None:
    grid = compressed(bits=4, **options).weight_grids["keys.weight"]

    ours = rounded(untrained().get_parameter("keys.weight").detach().double(), grid).numpy()

    assert np.isclose(ours, grid.values(), rtol=2e-3, atol=1e-6).mean() > 0.99  # float16 scales move some across a tie


def test_tables_and_the_last_layer_keep_8_bits_unless_told_otherwise() -> None:
    bits = {name: grid.bits for name, grid in made("int4 in groups, scales estimated").weight_grids.items()}

    assert bits == {"table.weight": 8, "classes.weight": 8, "keys.weight": 4, "values.weight": 4}
    assert {grid.bits for grid in made("int4").weight_grids.values()} == {4}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("exporter", ["openvino", "onnx"])
def test_a_file_holds_the_codes_and_gives_the_networks_outputs(exporter: str, form: str, tmp_path: Path) -> None:
    model = made(form)

    done = (
        EXPORTERS.load(exporter)
        .model_validate({"int4_weights": True})
        .export(model, Samples(inputs={"t": TOKENS[:1]}), tmp_path, progress=Silent())
    )

    session = RUNTIMES.load(RUNTIME_OF[exporter]).model_validate({}).open(done.path)
    theirs, ours = session.run_float({"t": TOKENS})["y"], predict(model, Samples(inputs={"t": TOKENS}))["y"]
    assert np.abs(theirs - ours).max() < 1e-4 * np.abs(ours).max()
    content = b"".join(file.read_bytes() for file in (done.path, *done.companions))
    for grid in model.weight_grids.values():
        codes = grid.codes.astype(np.uint8).reshape(-1)
        stored = codes if grid.bits == 8 else (codes[::2] & 15) | ((codes[1::2] & 15) << 4)
        assert stored.tobytes() in content
    bits = {grid.bits for grid in model.weight_grids.values()}
    assert code_types((done.path, *done.companions)) == {f"int{one}" for one in bits}


def test_a_model_is_read_back_with_its_codes(tmp_path: Path) -> None:
    model = made("int8, asymmetric")

    save_model(model, tmp_path)

    read = load_model(untrained, tmp_path)
    for name, grid in model.weight_grids.items():
        assert np.array_equal(read.weight_grids[name].values(), grid.values())
    assert read.lineage[-1]["weight_bytes"] == sum(grid.size_bytes for grid in model.weight_grids.values())


def test_a_layer_may_stay_float() -> None:
    model = compressed(float_layers=("keys",))

    assert "keys.weight" not in model.weight_grids and "values.weight" in model.weight_grids
    assert torch.equal(model.network.get_parameter("keys.weight"), untrained().get_parameter("keys.weight"))
    with pytest.raises(RecipeError, match=r"no layer 'keyz' with weights \(did you mean 'keys'\?\)"):
        compressed(float_layers=("keyz",))


def test_bytes_are_those_of_codes_scales_and_zero_points() -> None:
    grid = WeightGrid(
        bits=4, codes=np.zeros((4, 2, 16), np.uint8), scale=np.ones((4, 2, 1), np.float16),
        zero_point=np.zeros((4, 2, 1), np.uint8), shape=(4, 32),
    )  # fmt: skip

    assert grid.size_bytes == 64 + 16 + 4


@pytest.mark.parametrize(
    "option", [{"group_size": 32}, {"scale_estimation": True}, {"int8_edges": False}, {"awq": True}]
)
def test_options_of_four_bits_are_refused_with_eight(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="belongs to bits = 4"):
        CompressWeights(**option)


def test_gptq_without_a_linear_layer_to_choose_for_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"gptq finds no linear layer .*; leave gptq out"):
        compressed(gptq=True, float_layers=("keys", "values", "classes"))


def test_awq_without_a_layer_that_could_have_a_scale_is_refused() -> None:
    with pytest.raises(
        UnsupportedError, match=r"awq finds no .* scale: classes\.weight \(it reads what gelu .*leave awq out"
    ):
        compressed(bits=4, awq=True, float_layers=("keys", "values"))


COMPRESS = '[[compress]]\nmethod = "compress_weights"\n'


def test_a_target_that_can_not_take_such_weights_is_refused_in_the_plan(tiny_project: Callable[..., Project]) -> None:
    with pytest.raises(
        UnsupportedError, match=r"target 'arm64' writes litert files.* onnx or openvino; choose another"
    ):
        make_plan(tiny_project(COMPRESS).folder, target="arm64")


def test_weights_are_rounded_once(tiny_project: Callable[..., Project]) -> None:
    with pytest.raises(RecipeError, match="quantize and compress_weights both round the weights"):
        make_plan(tiny_project(COMPRESS + PTQ).folder, target="intel")


def test_gptq_without_samples_is_refused_in_the_plan(tiny_project: Callable[..., Project]) -> None:
    project = tiny_project(COMPRESS + "gptq = true\n")
    recipe = project.folder / "edgepack.toml"
    tables = recipe.read_text(encoding="utf-8").split("\n\n")
    left = [table for table in tables if not table.startswith(("[data.train]", "[data.calibration]"))]
    recipe.write_text("\n\n".join(left), encoding="utf-8")

    with pytest.raises(RecipeError, match=r"data\.calibration and data\.train are both missing"):
        make_plan(project.folder, target="intel")
