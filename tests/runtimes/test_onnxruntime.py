"""How a session of ONNX Runtime computes, on graphs small enough to compute by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.core.errors import DataError, StageError, UnsupportedError
from edgepack.core.types import QuantParams
from edgepack.runtimes.onnxruntime import OnnxRuntime

SCALE, ZERO = 0.5, 10


def write(
    path: Path, nodes: list[Any], *, x: Any, y: Any, constants: dict[str, Any] | None = None, opset: int = 18
) -> Path:
    """A model with input x and output y, each given as (ONNX type, shape)."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", *x)], [helper.make_tensor_value_info("y", *y)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    """y = 2x in float, batch open."""
    node = helper.make_node("Mul", ["x", "two"], ["y"])
    shape = ["n", 3]
    return write(
        tmp_path / "m.onnx",
        [node],
        x=(TensorProto.FLOAT, shape),
        y=(TensorProto.FLOAT, shape),
        constants={"two": np.float32(2)},
    )


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    """Codes in and out: a matrix product on one grid, y = x @ [[1, 0], [0, -1]], with a ReLU."""
    grid = ["scale", "zero"]
    nodes = [
        helper.make_node("DequantizeLinear", ["x", *grid], ["real"]),
        helper.make_node("DequantizeLinear", ["codes", "one", "none"], ["weight"]),
        helper.make_node("MatMul", ["real", "weight"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", *grid], ["unclipped"]),
        helper.make_node("Clip", ["unclipped", "zero", "most"], ["y"]),
    ]
    constants = {
        "scale": np.float32(SCALE), "zero": np.uint8(ZERO), "most": np.uint8(255), "one": np.float32(1), "none": np.int8(0),
        "codes": np.array([[1, 0], [0, -1]], np.int8),
    }  # fmt: skip
    return write(
        tmp_path / "q.onnx", nodes, x=(TensorProto.UINT8, [1, 2]), y=(TensorProto.UINT8, [1, 2]), constants=constants
    )


def test_the_grids_at_the_border_are_read_from_the_file(quantized: Path) -> None:
    session = OnnxRuntime().open(quantized)

    grid = QuantParams(scale=(SCALE,), zero_point=(ZERO,), dtype="uint8")
    assert [(item.name, item.dtype, item.quantization) for item in (*session.inputs, *session.outputs)] == [
        ("x", "uint8", grid),
        ("y", "uint8", grid),
    ]


def test_values_are_quantized_on_the_way_in_and_real_on_the_way_out(quantized: Path) -> None:
    session = OnnxRuntime().open(quantized)

    out = session.run_float({"x": np.array([[1.0, -2.0], [3.2, 4.0], [-1.0, 500.0]], np.float32)})

    np.testing.assert_array_equal(out["y"], [[1.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
    assert out["y"].dtype == np.float32


def test_codes_go_in_and_out_as_they_are(quantized: Path) -> None:
    session = OnnxRuntime().open(quantized)

    out = session.run({"x": np.array([[ZERO + 2, ZERO - 4]], np.uint8)})

    np.testing.assert_array_equal(out["y"], np.array([[ZERO + 2, ZERO + 4]], np.uint8))


def test_pairs_are_no_operators_and_a_clip_of_codes_is_the_relu_that_it_performs(quantized: Path) -> None:
    session = OnnxRuntime().open(quantized)

    assert [(item.name, item.inputs) for item in session.operators()] == [
        ("MatMul", ("real",)),
        ("Relu", ("unclipped",)),
    ]


def test_kept_tensors_are_real_values_and_change_no_output(quantized: Path) -> None:
    x = {"x": np.array([[1.0, -2.0]], np.float32)}
    kept = OnnxRuntime().open(quantized, keep_tensors=True)

    assert kept.run_float(x)["y"].tolist() == OnnxRuntime().open(quantized).run_float(x)["y"].tolist()

    tensors = kept.tensors()
    assert tensors["x"].tolist() == tensors["real"].tolist() == [[1.0, -2.0]]
    assert tensors["y"].tolist() == [[1.0, 2.0]]
    assert all(value.dtype == np.float32 for value in tensors.values())


def test_tensors_of_a_float_graph_are_all_kept(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["middle"]), helper.make_node("Abs", ["middle"], ["y"])]
    path = write(tmp_path / "f.onnx", nodes, x=(TensorProto.FLOAT, [1, 2]), y=(TensorProto.FLOAT, [1, 2]))
    session = OnnxRuntime().open(path, keep_tensors=True)

    session.run({"x": np.array([[1.0, -2.0]], np.float32)})

    assert {name: value.tolist() for name, value in session.tensors().items()} == {
        "x": [[1.0, -2.0]],
        "middle": [[-1.0, 2.0]],
        "y": [[1.0, 2.0]],
    }


def test_tensors_are_asked_for_in_vain_before_a_run_or_without_keeping(doubling: Path) -> None:
    with pytest.raises(StageError, match="open the session with keep_tensors=True"):
        OnnxRuntime().open(doubling).tensors()
    with pytest.raises(StageError, match="run the session first"):
        OnnxRuntime().open(doubling, keep_tensors=True).tensors()


@pytest.mark.parametrize("keep_tensors", [False, True])
def test_an_open_batch_takes_any_number_of_samples(doubling: Path, keep_tensors: bool) -> None:
    session = OnnxRuntime().open(doubling, keep_tensors=keep_tensors)

    for count in (0, 1, 5):
        x = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)
    assert session.inputs[0].shape == (1, 3)


def test_what_ran_is_told_by_type_and_float_leftovers_by_name(tmp_path: Path, quantized: Path, doubling: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["real"]),
        helper.make_node("Tanh", ["real"], ["t"]),
        helper.make_node("QuantizeLinear", ["t", "scale", "zero"], ["y"]),
    ]
    constants = {"scale": np.float32(SCALE), "zero": np.uint8(ZERO)}
    tanh = write(
        tmp_path / "t.onnx", nodes, x=(TensorProto.UINT8, [1, 2]), y=(TensorProto.UINT8, [1, 2]), constants=constants
    )

    floats, integers, mixed = (OnnxRuntime().open(path).execution for path in (doubling, quantized, tanh))

    assert (floats.device, floats.types, floats.notes) == ("CPUExecutionProvider", {"f32": 1}, ())
    assert (integers.types, integers.notes) == ({"u8": 2}, ())
    assert mixed.types == {"f32": 1}
    assert mixed.notes == ("computed in float between integer operators, for lack of an integer kernel: Tanh ×1",)


@pytest.mark.parametrize(
    "providers", [("CUDAExecutionProvider", "CPUExecutionProvider"), ("TensorrtExecutionProvider",)]
)
def test_a_provider_that_is_not_here_is_told(doubling: Path, providers: tuple[str, ...]) -> None:
    import onnxruntime

    if providers[0] in onnxruntime.get_available_providers():
        pytest.skip(f"{providers[0]} is here")

    session = OnnxRuntime(providers=providers).open(doubling)

    assert session.execution.device == "CPUExecutionProvider"
    assert session.execution.notes[0].startswith(f"not run on a GPU: ONNX Runtime has no {providers[0]}")
    assert session.run({"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[2.0, 2.0, 2.0]]


def test_sums_can_be_made_exact_for_cpus_without_vnni(quantized: Path) -> None:
    x = {"x": np.array([[100.0, -30.0]], np.float32)}

    plain, exact = (OnnxRuntime(exact_sums=exact).open(quantized).run_float(x)["y"] for exact in (False, True))

    assert plain.tolist() == exact.tolist()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "no values for the input 'x'"),
        ({"z": np.zeros((1, 3), np.float32)}, "has no input 'z'"),
        ({"x": np.zeros((1, 3), np.float64)}, r"takes float32 of shape \(N, 3\), .* got float64 of shape \(1, 3\)"),
        ({"x": np.zeros((1, 4), np.float32)}, r"got float32 of shape \(1, 4\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(doubling: Path, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(StageError, match=message):
        OnnxRuntime().open(doubling).run(inputs)


def test_nan_has_no_code(quantized: Path) -> None:
    with pytest.raises(DataError, match="NaN"):
        OnnxRuntime().open(quantized).run_float({"x": np.array([[np.nan, 0]], np.float32)})


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def _from_the_future(path: Path) -> None:
    model = onnx.load(path)
    model.opset_import[0].version = 99
    onnx.save(model, path)


def _newer_format(path: Path) -> None:
    model = onnx.load(path)
    model.ir_version = 99
    onnx.save(model, path)


def _unknown_operator(path: Path) -> None:
    model = onnx.load(path)
    model.graph.node[0].op_type = "Frobnicate"
    onnx.save(model, path)


def _fixed_batch_of_four(path: Path) -> None:
    model = onnx.load(path)
    for item in (*model.graph.input, *model.graph.output):
        item.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, path)


def _open_width(path: Path) -> None:
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "w"
    onnx.save(model, path)


def _missing_values(path: Path) -> None:
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((1, 3), 2, np.float32), "two"))
    onnx.save(model, path, save_as_external_data=True, location="values", size_threshold=0)
    (path.parent / "values").unlink()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_cut, StageError, "not a whole ONNX model|can't open this model"),
        (_from_the_future, UnsupportedError, "can't run this model: .*[Oo]pset 99"),
        (_newer_format, UnsupportedError, "can't run this model: .*IR version: 99"),
        (_unknown_operator, UnsupportedError, "can't run this model: .*Frobnicate"),
        (_fixed_batch_of_four, UnsupportedError, r"'x' has shape \(4, 3\); only models of batch size 1"),
        (_open_width, UnsupportedError, r"'x' has shape \(\?, \?\); only models of batch size 1"),
        (_missing_values, StageError, "not a whole ONNX model: .*values"),
    ],
)
def test_a_file_that_can_not_run_is_refused_in_one_line(
    doubling: Path, damage: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    damage(doubling)

    with pytest.raises(error, match=message) as caught:
        OnnxRuntime().open(doubling)
    assert str(caught.value).startswith(f"{doubling}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no such model file"):
        OnnxRuntime().open(tmp_path / "none.onnx")


def test_nothing_is_printed_by_a_session_that_falls_back(doubling: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgepack.runtimes.onnxruntime import OnnxRuntime; "
        "OnnxRuntime(providers=('CUDAExecutionProvider',)).open(Path(sys.argv[1]))"
    )

    done = subprocess.run([sys.executable, "-c", code, str(doubling)], capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_the_runtime_loads_neither_onnx_nor_onnxruntime() -> None:
    code = "import sys, edgepack.runtimes.onnxruntime; print('onnx' in sys.modules, 'onnxruntime' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).split() == ["False", "False"]
