"""Weights of four bits in the files of all three exporters: half the bytes, the same outputs to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from methods.test_prune_channels import context, model_of
from torch import nn

from edgepack.bundle.code_places import code_places
from edgepack.core.nibbles import unpacked
from edgepack.core.types import Samples, Silent
from edgepack.exporters import EXPORTERS
from edgepack.exporters.protocol import Exported
from edgepack.methods.quantize import Quantize
from edgepack.network.model import Model, predict
from edgepack.runtimes import RUNTIME_OF_FORMAT, RUNTIMES
from edgepack.stages.precision import code_types

INT4: dict[str, dict[str, Any]] = {
    "litert": {"int4_operators": ("FULLY_CONNECTED",)},
    "onnx": {"int4_weights": True, "on_codes": True},
    "openvino": {"int4_weights": True},
}
INT8: dict[str, dict[str, Any]] = {"litert": {}, "onnx": {"on_codes": True}, "openvino": {}}
each_exporter = pytest.mark.parametrize("name", sorted(INT4))


class Pointwise(nn.Module):
    """Convolutions of 3×3, 1×1 with even and odd channels, depthwise, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 15, 1), nn.ReLU(), nn.Conv2d(15, 15, 3, groups=15),
            nn.ReLU(), nn.Conv2d(15, 8, 1, stride=2), nn.ReLU(), nn.Conv2d(8, 64, 1, bias=False),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(64, 33), nn.ReLU(), nn.Linear(33, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Samples]:
    torch.manual_seed(0)
    model = model_of(Pointwise(), Pointwise, (3, 6, 6))
    given = context(model, tmp_path_factory.mktemp("narrow"))
    options = {"mode": "ptq", "weights_bits": 4, "int8_layers": ["features.0"]}
    return Quantize.model_validate(options).apply(model, given), given.calibration


@pytest.fixture(scope="module")
def exported(
    narrow: tuple[Model, Samples], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, dict[str, Any]], Exported]:
    made: dict[str, Exported] = {}

    def export(name: str, options: dict[str, Any]) -> Exported:
        model, samples = narrow
        if (key := f"{name} {options}") not in made:
            folder = tmp_path_factory.mktemp(name)
            made[key] = EXPORTERS.load(name)(**options).export(  # type: ignore[call-arg]
                model, samples.take(slice(0, 1)), folder, progress=Silent()
            )
        return made[key]

    return export


def outputs(done: Exported, samples: Samples) -> Any:
    session = RUNTIMES.load(RUNTIME_OF_FORMAT[done.format])().open(done.path)
    return np.concatenate([session.run_float(dict(one.inputs))["output"] for one in samples.batches(1)])


def weights_file_bytes(done: Exported) -> int:
    return (*done.companions, done.path)[0].stat().st_size


@each_exporter
def test_four_bits_compute_what_the_same_codes_in_eight_do(
    name: str, narrow: tuple[Model, Samples], exported: Callable[..., Exported]
) -> None:
    model, samples = narrow
    four, eight = exported(name, INT4[name]), exported(name, INT8[name])

    ours, theirs = outputs(four, samples), outputs(eight, samples)

    step = next(iter(model_steps(four)))
    if (
        name == "litert"
    ):  # a matrix with an odd number of columns is left to a kernel outside XNNPACK, which rounds otherwise
        assert np.abs(ours - theirs).max() <= 2.01 * step
    else:
        assert np.array_equal(ours, theirs)
    assert np.abs(ours - predict(model, samples)["output"]).max() <= 2.01 * step


def model_steps(done: Exported) -> list[float]:
    session = RUNTIMES.load(RUNTIME_OF_FORMAT[done.format])().open(done.path)
    return [item.quantization.step for item in session.outputs if item.quantization is not None]


@each_exporter
def test_the_grid_says_which_weights_have_four_bits_and_the_file_holds_two_in_a_byte(
    name: str, exported: Callable[..., Exported]
) -> None:
    done = exported(name, INT4[name])

    assert done.grid is not None
    dtypes = {weight: params.dtype for weight, params in done.grid.weights.items()}
    assert [weight for weight, dtype in dtypes.items() if dtype == "int8"] == ["features.0.weight"]
    places = code_places(done.codes, [done.path, *done.companions])
    packed = [weight for weight, place in places.items() if place.get("bits") == 4]
    assert {"features.2.weight", "features.8.weight", "classifier.0.weight"} <= set(packed)
    for weight in packed:
        place, codes = places[weight], done.codes[weight]
        data = next(path for path in (done.path, *done.companions) if path.name == place["file"]).read_bytes()
        stored = np.frombuffer(data, np.uint8)[place["offset"] :]
        assert np.array_equal(unpacked(stored, codes.size), codes.transpose(place["order"]).ravel())


@each_exporter
def test_without_int4_kernels_the_codes_are_stored_as_int8_and_the_report_says_so(
    name: str, exported: Callable[..., Exported]
) -> None:
    done, four = exported(name, INT8[name]), exported(name, INT4[name])

    assert any("stored as int8" in note and "features.2.weight" in note for note in done.notes)
    assert done.grid == four.grid
    assert not any(
        place.get("bits") == 4
        for place in code_places({"w": done.codes["classifier.0.weight"]}, [done.path, *done.companions]).values()
    )
    assert weights_file_bytes(four) < weights_file_bytes(done)
    assert [code_types((one.path, *one.companions)) for one in (done, four)] == [{"int8"}, {"int8", "int4"}]


def test_pointwise_convolutions_become_fully_connected_and_others_stay(exported: Callable[..., Exported]) -> None:
    done = exported("litert", INT4["litert"])

    kinds = [operator.name for operator in RUNTIMES.load("litert")().open(done.path).operators()]
    assert kinds.count("FULLY_CONNECTED") == 4 and done.added == ("FULLY_CONNECTED",) * 2
    assert kinds.count("CONV_2D") == 2 and kinds.count("DEPTHWISE_CONV_2D") == 1
    assert any("2 CONV_2D layer(s)" in note or "1 CONV_2D layer(s)" in note for note in done.notes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds", [("CONV_2D", "DEPTHWISE_CONV_2D"), ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
)
def test_litert_computes_every_kind_of_layer_from_four_bits(
    kinds: tuple[str, ...], narrow: tuple[Model, Samples], exported: Callable[..., Exported]
) -> None:
    model, samples = narrow
    done = exported("litert", {"int4_operators": kinds})

    assert np.abs(outputs(done, samples) - predict(model, samples)["output"]).max() <= 4.01 * model_steps(done)[0]
    assert not any(f" {kind} layer" in note for kind in kinds for note in done.notes)


def test_onnx_runtime_keeps_its_integer_kernels(exported: Callable[..., Exported], tmp_path: Path) -> None:
    import onnx
    import onnxruntime as ort

    done = exported("onnx", INT4["onnx"])
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(done.path, options, providers=["CPUExecutionProvider"])

    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "QLinearConv" in kinds and "QGemm" in kinds
    assert not kinds & {"Conv", "Gemm", "MatMul", "Cast"}
    assert onnx.load(done.path).opset_import[0].version == 21
    assert done.added == ("Cast",) * 6


def test_openvino_keeps_its_integer_kernels(exported: Callable[..., Exported]) -> None:
    session = RUNTIMES.load("openvino")().open(exported("openvino", INT4["openvino"]).path)

    assert not {"i4", "f32"} & set(session.execution.types)
