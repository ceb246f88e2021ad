"""The OpenVINO IR computes what the fake-quantized network computes, in int8, with the very codes and ranges that were trained."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgepack.core.errors import UnsupportedError
from edgepack.core.openvino_core import openvino_core
from edgepack.core.types import Samples, Silent, TensorSpec
from edgepack.exporters.openvino import OpenVINOExporter
from edgepack.exporters.protocol import Exported, ExportOptions
from edgepack.methods.protocol import Context
from edgepack.methods.quantize import Quantize
from edgepack.network.fold import program_of
from edgepack.network.model import Model, flat_outputs, predict
from edgepack.runtimes.openvino import OpenVINO
from edgepack.targets import load_target
from exporters.cases import Case, quantized
from exporters.zoo import ZOO

CONSTRAINTS = load_target("intel").quantization
MEAN_STEPS_MAX, MAX_STEPS_MAX, AGREEMENT_MIN = 0.05, 1.0, 0.99
RESIDUAL = "inverted residual"


@pytest.fixture(scope="module")
def residual() -> Case:
    return quantized(RESIDUAL, target="intel")


def export(case: Case, folder: Path, *, round_before_sums: bool = True, **options: Any) -> Exported:
    folder.mkdir(exist_ok=True)
    exporter = OpenVINOExporter(options=ExportOptions(**options), round_before_sums=round_before_sums)
    return exporter.export(case.model, case.samples.take(slice(0, 1)), folder, progress=Silent())


def float_model(network: nn.Module, shape: tuple[int, ...], *, layout: str = "any") -> Model:
    fresh = copy.deepcopy(network.eval())  # tracing leaves hooks in the network that it was given
    with torch.no_grad():
        outputs = flat_outputs(network(torch.zeros(1, *shape)))
    names = [f"y{index}" for index in range(len(outputs))] if len(outputs) > 1 else ["y"]
    return Model(
        network=network, build=lambda: copy.deepcopy(fresh), inputs=(TensorSpec(name="x", shape=(1, *shape), layout=layout),),  # type: ignore[arg-type]
        outputs=tuple(TensorSpec(name=name, shape=tuple(out.shape)) for name, out in zip(names, outputs, strict=True)),
    )  # fmt: skip


def weight_constants(path: Path) -> list[np.ndarray]:

    nodes = openvino_core().read_model(path).get_ordered_ops()
    return [node.data for node in nodes if node.get_type_name() == "Constant" and node.data.dtype == np.int8]


@pytest.mark.parametrize(
    ("name", "io_dtype"), [*((name, "int8") for name in ZOO), ("u-net", "float32"), (RESIDUAL, "float32")]
)
def test_the_file_computes_what_was_trained_and_in_int8(name: str, io_dtype: str, tmp_path: Path) -> None:
    case = quantized(name, target="intel")

    made = export(case, tmp_path, io_dtype=io_dtype)

    session = OpenVINO().open(made.path)
    theirs, ours = session.run_float(dict(case.samples.inputs)), predict(case.model, case.samples)
    assert set(theirs) == set(ours)
    grids = output_steps(case)
    for item in session.outputs:
        assert item.dtype == io_dtype
        steps = np.abs(theirs[item.name] - ours[item.name]) / grids[item.name]
        assert steps.mean() <= MEAN_STEPS_MAX, (item.name, steps.mean())
        assert steps.max() <= MAX_STEPS_MAX + 1e-3, (item.name, steps.max())
        assert (best(theirs[item.name]) == best(ours[item.name])).mean() >= AGREEMENT_MIN
    types, notes = session.execution.types, " ".join(session.execution.notes)
    whole_network_in_one_kernel = name == "perceptron with tanh"
    assert types.get("u8", 0) + types.get("i8", 0) > types.get("f32", 0) or whole_network_in_one_kernel
    assert "Convolution" not in notes and "FullyConnected" not in notes and "MatMul" not in notes


def output_steps(case: Case) -> dict[str, float]:
    from edgepack.network.model import output_steps

    return {name: step for name, step in output_steps(case.model).items() if step is not None}


def best(scores: np.ndarray) -> np.ndarray:
    return scores.reshape(len(scores), -1).argmax(1)


class LinearLayers(nn.Module):
    """Two linear layers and what stands between them."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(32, 8, bias=False), between, nn.Linear(8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


@pytest.mark.parametrize("between", [nn.Identity(), nn.ReLU()])
def test_linear_layers_in_a_row_compute_what_was_trained(between: nn.Module, tmp_path: Path) -> None:
    """OpenVINO's CPU plugin 2026.4 makes one kernel of them, whose numbers are wrong; the exporter keeps them apart."""
    torch.manual_seed(0)
    model = float_model(LinearLayers(between), (32,))
    samples = Samples(inputs={"x": np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)})
    context = Context(
        original=model, train=None, calibration=samples, constraints=CONSTRAINTS, workspace=tmp_path, key="", seed=0, progress=Silent(),
    )  # fmt: skip
    quantized_model = Quantize.model_validate({"mode": "ptq"}).apply(model, context)
    case = Case(model=quantized_model, samples=samples, original=model)

    made = export(case, tmp_path / "export", io_dtype="float32")

    theirs = OpenVINO().open(made.path).run_float(dict(samples.inputs))["y"]
    assert np.abs(theirs - predict(quantized_model, samples)["y"]).max() <= 1.001 * output_steps(case)["y"]


def test_a_residual_sum_is_rounded_as_it_was_trained(residual: Case, tmp_path: Path) -> None:
    """Without `round_before_sums`, OpenVINO's CPU plugin drops a rounding; if it stops doing so, the option has no purpose any more."""
    ours = predict(residual.model, residual.samples)["output"]
    sessions = {
        exact: OpenVINO().open(export(residual, tmp_path / str(exact), round_before_sums=exact).path)
        for exact in (True, False)
    }

    apart = {
        exact: np.abs(session.run_float(dict(residual.samples.inputs))["output"] - ours).mean()
        for exact, session in sessions.items()
    }

    assert apart[True] == pytest.approx(0, abs=1e-5)
    assert apart[False] > 0.02 * output_steps(residual)["output"]
    assert sessions[True].operators() == sessions[False].operators()


class Arithmetic(nn.Module):
    """Sums and products with constants, a transposition right behind the input, and the same convolution twice: OpenVINO likes to fuse these."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = (x.permute(0, 3, 1, 2) * 1.7 + 0.3) - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
        y = torch.relu(self.conv(x)) / 6 + self.conv(x) * 0.35
        y = self.linear(y.mean((2, 3)))
        return y, y + 1


def test_no_fusion_of_the_converter_takes_a_grid_away(tmp_path: Path) -> None:
    model = float_model(Arithmetic(), (12, 12, 3))
    x = np.random.default_rng(0).normal(size=(16, 12, 12, 3)).astype(np.float32)
    case = ptq(model, Samples(inputs={"x": x}), tmp_path)

    made = export(case, tmp_path)

    session = OpenVINO().open(made.path)
    ours, theirs, grids = predict(case.model, case.samples), session.run_float({"x": x}), output_steps(case)
    for name in ours:
        assert np.abs(theirs[name] - ours[name]).max() <= (MAX_STEPS_MAX + 1e-3) * grids[name]
    operators = [operator.name for operator in session.operators()]
    assert operators == [operator.name for operator in OpenVINO().open(made.float_path).operators()]


def ptq(model: Model, samples: Samples, folder: Path) -> Case:
    context = Context(
        original=model, train=samples, calibration=samples, constraints=CONSTRAINTS, workspace=folder, key="ptq", seed=0,
        progress=Silent(),
    )  # fmt: skip
    network = model.build()
    return Case(
        model=Quantize(mode="ptq").apply(dataclasses.replace(model, network=network), context),
        samples=samples,
        original=model,
    )


def test_weights_are_stored_as_the_trained_codes(residual: Case, tmp_path: Path) -> None:
    made = export(residual, tmp_path)

    stored = sorted(array.tobytes() for array in weight_constants(made.path))

    codes = [layer.codes for layer in program_of(residual.model).layers]
    assert stored == sorted(array.tobytes() for array in codes if array is not None)
    assert made.companions == (tmp_path / "model.bin",)


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.classes = nn.Embedding(200, 32), nn.Linear(32, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.classes(self.table(tokens).mean(1))


def test_an_embedding_table_is_stored_in_int8(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 200, (16, 6))
    network = Text().eval()
    model = Model(
        network=network, build=lambda: copy.deepcopy(network), inputs=(TensorSpec(name="t", shape=(1, 6), dtype="int64"),),
        outputs=(TensorSpec(name="y", shape=(1, 3)),),
    )  # fmt: skip
    case = ptq(model, Samples(inputs={"t": tokens}), tmp_path)

    made = export(case, tmp_path)

    ours, theirs = predict(case.model, case.samples)["y"], OpenVINO().open(made.path).run_float({"t": tokens})["y"]
    assert np.abs(theirs - ours).max() <= (MAX_STEPS_MAX + 1e-3) * output_steps(case)["y"]
    assert (200, 32) in [constant.shape for constant in weight_constants(made.path)]


def test_ranges_in_the_file_are_the_trained_grid(residual: Case, tmp_path: Path) -> None:

    made = export(residual, tmp_path)

    nodes = {node.get_friendly_name(): node for node in openvino_core().read_model(made.path).get_ordered_ops()}
    grid = program_of(residual.model).activations
    assert {operation for operation, _ in made.tensors.values()} == set(grid)
    for name, (operation, params) in made.tensors.items():
        ends = [float(nodes[name].input_value(port).get_node().data) for port in (1, 2, 3, 4)]
        low, high = (params.scale[0] * (end - params.zero_point[0]) for end in (-128, 127))
        assert ends == [np.float32(low), np.float32(high), np.float32(low), np.float32(high)]
        assert params == grid[operation]


def test_no_tensor_of_the_file_is_off_its_grid(residual: Case, tmp_path: Path) -> None:
    made = export(residual, tmp_path)
    session = OpenVINO().open(made.path, keep_tensors=True)

    session.run_float({"input": residual.samples.inputs["input"][:1]})

    for name, (_, params) in made.tensors.items():
        codes = session.tensors()[name] / params.scale[0]
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)


def test_the_float_file_computes_what_the_network_with_baked_weights_computes(residual: Case, tmp_path: Path) -> None:
    made = export(residual, tmp_path)

    theirs = OpenVINO().open(made.float_path).run_float(dict(residual.samples.inputs))["output"]

    with torch.no_grad():
        ours = program_of(residual.model).float_network(torch.from_numpy(residual.samples.inputs["input"])).numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.parametrize(("name", "io_dtype"), [(RESIDUAL, "int8"), ("concatenation and poolings", "float32")])
def test_an_open_batch_answers_as_the_static_model(name: str, io_dtype: str, tmp_path: Path) -> None:
    """An int8 model with an open batch did not compile where float parts ran in bf16, OpenVINO's own choice."""
    case = quantized(name, target="intel")
    static = OpenVINO().open(export(case, tmp_path / "static", io_dtype=io_dtype).path)
    made = export(case, tmp_path / "open", io_dtype=io_dtype, dynamic_batch=True)
    five = {"input": case.samples.inputs["input"][:5]}
    one = {"input": case.samples.inputs["input"][:1]}

    session = OpenVINO().open(made.path)

    expected = static.run_float(five)["output"]
    np.testing.assert_allclose(session.run_float(five)["output"], expected, atol=1e-5)
    np.testing.assert_allclose(session.run_float(one)["output"], expected[:1], atol=1e-5)
    assert session.execution.types.get("u8", 0) >= static.execution.types.get("u8", 0)


def test_an_image_input_can_be_nhwc(residual: Case, tmp_path: Path) -> None:
    plain, turned = export(residual, tmp_path / "nchw"), export(residual, tmp_path / "nhwc", nhwc_inputs=True)
    x = residual.samples.inputs["input"]

    session = OpenVINO().open(turned.path)

    assert session.inputs[0].shape == (1, 16, 16, 3)
    np.testing.assert_array_equal(
        session.run_float({"input": np.ascontiguousarray(x.transpose(0, 2, 3, 1))})["output"],
        OpenVINO().open(plain.path).run_float({"input": x})["output"],
    )


def test_a_float_model_can_be_stored_in_half_the_bytes(tmp_path: Path) -> None:
    model = float_model(nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)), (64,))
    samples = Samples(inputs={"x": np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)})
    case = Case(model=model, samples=samples, original=model)
    sizes, outputs = {}, {}
    for dtype in ("float32", "float16"):
        made = export(case, tmp_path / dtype, float_dtype=dtype)
        sizes[dtype] = made.companions[0].stat().st_size
        outputs[dtype] = OpenVINO().open(made.path).run_float(dict(case.samples.inputs))["y"]
        assert made.tensors == {}

    assert sizes["float16"] < 0.51 * sizes["float32"]
    np.testing.assert_allclose(outputs["float16"], outputs["float32"], atol=2e-3)
    np.testing.assert_allclose(outputs["float32"], predict(case.model, case.samples)["y"], atol=1e-5)


def test_half_precision_beside_int8_is_refused(residual: Case, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match='remove the step "quantize", or float_dtype'):
        export(residual, tmp_path, float_dtype="float16")


class Odd(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [(torch.lgamma, r"aten\.lgamma\.default at '1'"), (torch.frac, r"take this model: aten\.trunc\.default$")],
)
def test_an_operator_that_openvino_lacks_is_named_before_training(function: Any, message: str, tmp_path: Path) -> None:
    model = float_model(nn.Sequential(nn.Linear(8, 8), Odd(function), nn.Linear(8, 4)), (8,))

    with pytest.raises(UnsupportedError, match=message):
        OpenVINOExporter().check(model, Samples(inputs={}), tmp_path, constraints=None, progress=Silent())


def test_the_check_lays_the_integer_graph_out_and_leaves_a_float_file(tmp_path: Path) -> None:
    from exporters.zoo import make

    model = float_model(make(RESIDUAL), (3, 16, 16))
    x = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)

    made = OpenVINOExporter().check(model, Samples(inputs={}), tmp_path, constraints=CONSTRAINTS, progress=Silent())

    assert made.path == made.float_path
    found = OpenVINO().open(made.path).run_float({"x": x})["y"]
    np.testing.assert_allclose(found, predict(model, Samples(inputs={"x": x}))["y"], atol=1e-4)


@pytest.mark.slow
def test_a_real_model_is_hardly_larger_than_its_weights(tmp_path: Path) -> None:
    """EfficientNet-Lite0's architecture; a made-up grid, since the size doesn't depend on it."""
    from efficientnet_lite_pytorch import EfficientNet

    from edgepack.exporters.openvino_grid import impose
    from edgepack.exporters.openvino_ir import convert, save
    from edgepack.network.grid import made_up_grid, trace

    model = float_model(EfficientNet.from_name("efficientnet-lite0"), (3, 224, 224))
    grid = made_up_grid(model.network, trace(model.build(), model.example()), CONSTRAINTS)
    program, network = convert(model, ExportOptions(), made_up=grid)
    tensors = impose(network, program, io_dtype="int8", round_before_sums=True)
    save(network, tmp_path / "model.xml", named=tensors)

    size = sum((tmp_path / name).stat().st_size for name in ("model.xml", "model.bin"))
    weights = sum(layer.codes.size for layer in program.layers if layer.codes is not None)
    assert weights > 4_000_000
    assert size <= 1.15 * weights
