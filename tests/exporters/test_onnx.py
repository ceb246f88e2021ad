"""The ONNX file computes what the fake-quantized network computes, in integer kernels, and says nothing of where it was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Array, Samples, Silent, TensorSpec
from edgepack.exporters.onnx import OnnxExporter
from edgepack.exporters.onnx_convert import PROTOBUF_BYTES_MAX
from edgepack.exporters.protocol import Exported, ExportOptions
from edgepack.network.fold import program_of
from edgepack.network.model import Model, predict
from edgepack.runtimes.onnxruntime import OnnxRuntime
from edgepack.targets import load_target
from exporters.cases import Case, float_case, quantized
from exporters.zoo import MORE, ZOO

MEAN_STEPS_MAX, MAX_STEPS_MAX = 0.75, 3.0
CPU = {"on_codes": True}
IMAGES = "concatenation and poolings"


def exported(model: Model, folder: Path, *, settings: dict[str, Any] = CPU, **options: Any) -> Exported:
    exporter = OnnxExporter(options=ExportOptions(**options), **settings)
    return exporter.export(model, Samples(inputs={}), folder, progress=Silent())


@pytest.fixture(scope="module")
def zoo_export(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Case, Exported]]:
    """A network of the zoo, trained and exported once for all tests."""
    done: dict[str, tuple[Case, Exported]] = {}

    def get(name: str) -> tuple[Case, Exported]:
        if name not in done:
            case = quantized(name)
            done[name] = case, exported(case.model, tmp_path_factory.mktemp("zoo"))
        return done[name]

    return get


def constants(path: Path) -> dict[str, Array]:
    return {item.name: numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}


def activation_zero_points(path: Path) -> Iterator[Array]:
    model, values = onnx.load(path), constants(path)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] not in values:
            yield values[node.input[2]]


@pytest.mark.parametrize("name", [*ZOO, *MORE])
def test_the_file_computes_what_was_trained(name: str, zoo_export: Callable[[str], tuple[Case, Exported]]) -> None:
    case, made = zoo_export(name)

    session = OnnxRuntime().open(made.path)

    theirs, ours = session.run_float(dict(case.samples.inputs)), predict(case.model, case.samples)
    assert set(theirs) == set(ours)
    for item in session.outputs:
        assert item.dtype == "uint8" and item.quantization is not None
        steps = np.abs(theirs[item.name] - ours[item.name]) / item.quantization.step
        assert steps.mean() <= MEAN_STEPS_MAX, (item.name, steps.mean())
        assert steps.max() <= MAX_STEPS_MAX, (item.name, steps.max())


@pytest.mark.parametrize("name", [*ZOO, *MORE])
def test_no_operator_is_there_that_the_float_graph_has_not(
    name: str, zoo_export: Callable[[str], tuple[Case, Exported]]
) -> None:
    _, made = zoo_export(name)

    kinds = [operator.name for operator in OnnxRuntime().open(made.path).operators()]

    for operator in OnnxRuntime().open(made.float_path).operators():
        if operator.name in kinds:
            kinds.remove(operator.name)
    assert kinds == []


@pytest.mark.parametrize(
    "name", [IMAGES, "shared weights", "two outputs", "dense connections", "one dimension", "padded shortcut"]
)
def test_integer_kernels_run_all_of_it(name: str, zoo_export: Callable[[str], tuple[Case, Exported]]) -> None:
    _, made = zoo_export(name)

    execution = OnnxRuntime().open(made.path).execution

    assert set(execution.types) == {"u8"}
    assert execution.notes == ()


def test_linear_layers_over_sequences_have_int8_weights_though_the_exporter_transposes_them(
    zoo_export: Callable[[str], tuple[Case, Exported]],
) -> None:
    case, made = zoo_export("attention")

    values = constants(made.path)

    layers = [layer for layer in program_of(case.model).layers if layer.kind == "linear"]
    assert len(layers) == 6
    for layer in layers:
        assert layer.codes is not None
        np.testing.assert_array_equal(
            np.sort(values[f"{layer.name}/codes"], axis=None), np.sort(layer.codes, axis=None)
        )
    assert not any(value.dtype == np.float32 and value.ndim > 1 for value in values.values())


def test_weights_are_the_trained_codes_and_biases_int32(zoo_export: Callable[[str], tuple[Case, Exported]]) -> None:
    case, made = zoo_export(IMAGES)
    values = constants(made.path)

    for layer in program_of(case.model).layers:
        assert layer.codes is not None and layer.params is not None and layer.bias is not None
        np.testing.assert_array_equal(values[f"{layer.name}/codes"], layer.codes)
        np.testing.assert_array_equal(values[f"{layer.name}/scale"], np.float32(layer.params.scale))
        bias = layer.name.removesuffix(".weight") + ".bias"
        assert values[f"{bias}/codes"].dtype == np.int32
        real = values[f"{bias}/codes"] * values[f"{bias}/scale"].astype(np.float64)
        np.testing.assert_allclose(real, layer.bias, atol=values[f"{bias}/scale"].max())


def test_a_bias_too_large_for_int32_widens_the_scale_and_is_told(tmp_path: Path) -> None:
    case = quantized("perceptron with tanh")
    model = replace(case.model, network=_with_tiny_channel(case.model.network))

    made = exported(model, tmp_path)

    assert any("wider scale so that the bias fits int32" in note for note in made.notes)
    theirs = OnnxRuntime().open(made.path).run_float(dict(case.samples.inputs))["output"]
    step = list(made.tensors.values())[-1][1].step
    assert (np.abs(theirs - predict(model, case.samples)["output"]) / step).mean() <= MEAN_STEPS_MAX


def _with_tiny_channel(network: nn.Module) -> nn.Module:
    import copy

    changed = copy.deepcopy(network)
    with torch.no_grad():
        changed.second.weight[0] *= 1e-9
        for name, hook in changed.named_modules():
            if name.endswith("second/linear/0__1.0"):
                hook.scale[0] *= 1e-9
        changed.second.bias[0] = 1.0
    return changed


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("io_dtype", ["int8", "float32"])
def test_the_border_has_codes_or_floats_on_the_same_grid(dtype: str, io_dtype: str, tmp_path: Path) -> None:
    case = quantized("two outputs")

    made = exported(case.model, tmp_path, settings={"activation_dtype": dtype}, io_dtype=io_dtype)

    session = OnnxRuntime().open(made.path)
    border = dtype if io_dtype == "int8" else "float32"
    assert [item.name for item in (*session.inputs, *session.outputs)] == ["input", "output_0", "output_1"]
    assert {item.dtype for item in (*session.inputs, *session.outputs)} == {border}
    ours, theirs = predict(case.model, case.samples), session.run_float(dict(case.samples.inputs))
    for name, (_, params) in list(made.tensors.items())[-2:]:
        assert (np.abs(theirs[name] - ours[name]) / params.step).max() <= MAX_STEPS_MAX
        assert params.dtype == dtype


def test_images_can_enter_as_nhwc(tmp_path: Path) -> None:
    case = quantized(IMAGES)
    chw = exported(case.model, tmp_path, io_dtype="int8")
    expected = OnnxRuntime().open(chw.path).run_float(dict(case.samples.inputs))["output"]
    images = case.samples.inputs["input"].transpose(0, 2, 3, 1)

    for io_dtype in ("int8", "float32"):
        made = exported(case.model, tmp_path, io_dtype=io_dtype, nhwc_inputs=True)
        session = OnnxRuntime().open(made.path)
        assert session.inputs[0].shape == (1, 16, 16, 3)
        np.testing.assert_array_equal(session.run_float({"input": images})["output"], expected)
        assert OnnxRuntime().open(made.float_path).inputs[0].shape == (1, 16, 16, 3)


@pytest.mark.parametrize("name", [IMAGES, "one dimension", "hard swish and squeeze-excite"])
def test_a_file_with_an_open_batch_takes_one_sample_and_five(name: str, tmp_path: Path) -> None:
    case = quantized(name)
    made = exported(case.model, tmp_path, dynamic_batch=True)
    session = OnnxRuntime().open(made.path)
    x = case.samples.inputs["input"]

    one, five = session.run_float({"input": x[:1]})["output"], session.run_float({"input": x[:5]})["output"]

    fixed = OnnxRuntime().open(exported(case.model, tmp_path / "fixed").path).run_float({"input": x[:5]})["output"]
    np.testing.assert_array_equal(five, fixed)
    np.testing.assert_array_equal(one, fixed[:1])
    assert onnx.load(made.path).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_half_precision_keeps_float32_borders_and_halves_the_file(tmp_path: Path) -> None:
    model, samples = float_case("hard swish and squeeze-excite")

    made = exported(model, tmp_path, float_dtype="float16")
    full = exported(model, tmp_path / "full", float_dtype="float32")

    values = constants(made.path)
    assert {value.dtype.name for value in values.values()} <= {"float16", "int64"}
    assert made.path.stat().st_size < 0.65 * full.path.stat().st_size
    session = OnnxRuntime().open(made.path)
    assert {item.dtype for item in (*session.inputs, *session.outputs)} == {"float32"}
    ours, theirs = predict(model, samples)["output"], session.run_float(dict(samples.inputs))["output"]
    np.testing.assert_allclose(theirs, ours, atol=2e-2 * np.abs(ours).max())
    assert not np.array_equal(theirs, ours)


def test_half_precision_of_a_quantized_model_is_refused_before_and_after_training(tmp_path: Path) -> None:
    case = quantized(IMAGES)
    exporter = OnnxExporter(options=ExportOptions(float_dtype="float16"))

    with pytest.raises(UnsupportedError, match=r"float_dtype = .float16. is the type of a model that is not quantized"):
        exporter.export(case.model, case.samples, tmp_path, progress=Silent())
    with pytest.raises(UnsupportedError, match="float_dtype"):
        constraints = load_target("x86_64").quantization
        exporter.check(case.original, case.samples, tmp_path, constraints=constraints, progress=Silent())


@pytest.mark.parametrize("name", ["hard swish and squeeze-excite", IMAGES, "perceptron with tanh"])
def test_every_zero_point_is_zero_where_activations_are_symmetric(name: str, tmp_path: Path) -> None:
    target = load_target("gpu-tensorrt")
    case = quantized(name, target="gpu-tensorrt")

    made = exported(case.model, tmp_path, settings=target.exporter_options)

    zeros = list(activation_zero_points(made.path))
    assert zeros and all(zero.dtype == np.int8 and zero == 0 for zero in zeros)
    assert all(params.zero_point == (0,) and params.dtype == "int8" for _, params in made.tensors.values())
    assert not any(value.dtype == np.int32 for value in constants(made.path).values())
    session = OnnxRuntime().open(made.path)
    theirs, ours = session.run_float(dict(case.samples.inputs))["output"], predict(case.model, case.samples)["output"]
    steps = np.abs(theirs - ours) / session.outputs[0].quantization.step  # type: ignore[union-attr]
    assert steps.mean() <= MEAN_STEPS_MAX
    assert steps.max() <= MAX_STEPS_MAX


def test_the_file_says_nothing_of_where_it_was_made(zoo_export: Callable[[str], tuple[Case, Exported]]) -> None:
    _, made = zoo_export("dense connections")

    for path in (made.path, made.float_path):
        model, content = onnx.load(path), path.read_bytes()
        assert not model.metadata_props and not model.graph.metadata_props and not model.graph.value_info
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        for word in (b"/work", b"site-packages", b".py", b"torch", b"stack_trace"):
            assert word not in content, word


def test_the_opset_and_the_oldest_ir_version_with_it_are_stated(
    zoo_export: Callable[[str], tuple[Case, Exported]],
) -> None:
    _, made = zoo_export("dense connections")
    model = onnx.load(made.path)

    assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("opset", [18, 21])
def test_another_opset_gives_the_same_values(opset: int, tmp_path: Path) -> None:
    case = quantized("u-net")

    made = exported(case.model, tmp_path, settings={"opset": opset, **CPU})

    assert onnx.load(made.path).opset_import[0].version == opset
    theirs = OnnxRuntime().open(made.path).run_float(dict(case.samples.inputs))["output"]
    step = list(made.tensors.values())[-1][1].step
    assert (np.abs(theirs - predict(case.model, case.samples)["output"]) / step).max() <= MAX_STEPS_MAX


def test_an_operator_outside_the_targets_list_is_named_with_its_place(tmp_path: Path) -> None:
    model, samples = float_case("hard swish and squeeze-excite")
    known = ("Conv", "Relu", "Add", "Mul", "GlobalAveragePool", "Flatten", "Reshape", "Gemm", "HardSigmoid")
    exporter = OnnxExporter(operators=known)

    with pytest.raises(UnsupportedError, match=r"ONNX operator HardSwish at 'stem\.2' is not in the target's list"):
        exporter.check(model, samples, tmp_path, constraints=None, progress=Silent())


class Unknown(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.reshape(2, 4))


def model_of(build: Callable[[], nn.Module], shape: tuple[int, ...], out: tuple[int, ...]) -> Model:
    return Model(
        network=build().eval(),
        build=build,
        inputs=(TensorSpec(name="x", shape=shape),),
        outputs=(TensorSpec(name="y", shape=out),),
    )


def test_an_operation_without_an_onnx_form_is_named(tmp_path: Path) -> None:
    model = model_of(Unknown, (1, 4), (1, 4))

    with pytest.raises(UnsupportedError, match=r"ONNX can.t take this model: .*bessel_j0"):
        OnnxExporter().check(model, Samples(inputs={}), tmp_path, constraints=None, progress=Silent())


def test_a_forward_that_fixes_the_batch_is_refused_with_an_open_one(tmp_path: Path) -> None:
    model = model_of(FixedBatch, (1, 4), (1, 2))
    exporter = OnnxExporter(options=ExportOptions(dynamic_batch=True))

    with pytest.raises(UnsupportedError, match="batch"):
        exporter.check(model, Samples(inputs={}), tmp_path, constraints=None, progress=Silent())


class Huge(nn.Module):
    """Two values of storage that count as three billion bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 1).expand(2, PROTOBUF_BYTES_MAX // 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def test_a_model_over_two_gigabytes_is_refused_before_it_is_traced(tmp_path: Path) -> None:
    model = model_of(Huge, (1, 2), (1, PROTOBUF_BYTES_MAX // 6))

    with pytest.raises(
        UnsupportedError, match=r"take 2,863,311,528 bytes; one \.onnx file holds at most 2,147,483,647"
    ):
        OnnxExporter().check(model, Samples(inputs={}), tmp_path, constraints=None, progress=Silent())


@pytest.mark.parametrize("name", [IMAGES, "hard swish and squeeze-excite"])
def test_the_check_before_training_lays_the_whole_graph_out(name: str, tmp_path: Path) -> None:
    model, samples = float_case(name)

    done = OnnxExporter(**CPU).check(
        model, samples, tmp_path, constraints=load_target("x86_64").quantization, progress=Silent()
    )

    assert done.path == done.float_path
    theirs = OnnxRuntime().open(done.path).run_float(dict(samples.inputs))["output"]
    np.testing.assert_allclose(theirs, predict(model, samples)["output"], atol=1e-4)
    kinds = {node.op_type for node in onnx.load(tmp_path / "check.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_every_tensor_is_named_after_its_operation(zoo_export: Callable[[str], tuple[Case, Exported]]) -> None:
    _, made = zoo_export("dense connections")

    names = {name: operation for name, (operation, _) in made.tensors.items()}
    assert names.pop("output") == "linear/linear/0"
    assert all(name == operation for name, operation in names.items())
