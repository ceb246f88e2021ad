"""OpenVINO sessions on small IR files that are made here node by node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.core.errors import DataError, StageError, UnsupportedError
from edgepack.core.openvino_core import openvino_core
from edgepack.core.types import QuantParams
from edgepack.runtimes import RUNTIMES, Session
from edgepack.runtimes.grid import dequantize
from edgepack.runtimes.openvino import OpenVINO

GRID = QuantParams(scale=(0.05,), zero_point=(10,))
OUT_GRID = QuantParams(scale=(0.125,), zero_point=(-3,))
WEIGHT = np.random.default_rng(3).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)


@dataclass(frozen=True, kw_only=True)
class Files:
    """`int8` has codes at its borders, `float_border` is the same without; `two_ways` has two inputs and outputs in float."""

    int8: Path
    float_border: Path
    float32: Path
    two_ways: Path


def fake_quantize(ops: Any, x: Any, grid: QuantParams, name: str, *, to_codes: bool = False) -> Any:
    low, high = (grid.scale[0] * (end - grid.zero_point[0]) for end in (-128, 127))
    ends = [low, high, *((-128, 127) if to_codes else (low, high))]
    node = ops.fake_quantize(x, *(ops.constant(np.float32(end)) for end in ends), levels=256)
    node.set_friendly_name(name)
    return node


def convolution(*, codes: bool, quantized: bool, batch: int = 1, identity: bool = False) -> Any:
    """(N, 3, 6, 6) → convolution → grid → ReLU → grid → (N, 4, 4, 4)."""
    from openvino import Model
    from openvino import opset13 as ops

    image = ops.parameter([batch, 3, 6, 6], np.int8 if codes else np.float32, name="image")
    x = image
    if codes:
        x = ops.subtract(ops.convert(x, np.float32), ops.constant(np.float32(GRID.zero_point[0])))
        x = ops.multiply(x, ops.constant(np.float32(GRID.scale[0])))
    if quantized:
        x = fake_quantize(ops, x, GRID, "input grid")
    scale = np.float32([0.01, 0.02, 0.015, 0.005]).reshape(4, 1, 1, 1)
    weight = ops.multiply(ops.convert(ops.constant(WEIGHT), np.float32), ops.constant(scale))
    x = ops.convolution(x, weight, [1, 1], [0, 0], [0, 0], [1, 1])
    x.set_friendly_name("conv")
    if identity:
        x = ops.prelu(x, ops.constant(np.float32([1.0])))
    if quantized:
        x = fake_quantize(ops, x, OUT_GRID, "conv grid")
    x = ops.relu(x)
    x.set_friendly_name("relu")
    if quantized:
        x = fake_quantize(ops, x, OUT_GRID, "relu grid")
    if codes:
        x = ops.convert(fake_quantize(ops, x, OUT_GRID, "codes", to_codes=True), np.int8)
    return Model([ops.result(x, name="scores")], [image], "small")


def two_ways() -> Any:
    from openvino import Model
    from openvino import opset13 as ops

    first, second = (ops.parameter([1, 3], np.float32, name=name) for name in ("first", "second"))
    less = ops.result(ops.subtract(first, ops.multiply(second, ops.constant(np.float32(2)))), name="less")
    more = ops.result(ops.add(first, ops.constant(np.float32(1))), name="more")
    return Model([less, more], [first, second], "two ways")


def saved(model: Any, path: Path) -> Path:
    import openvino

    openvino.serialize(model, path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("ir")
    return Files(
        int8=saved(convolution(codes=True, quantized=True), folder / "int8.xml"),
        float_border=saved(convolution(codes=False, quantized=True), folder / "border.xml"),
        float32=saved(convolution(codes=False, quantized=False), folder / "float32.xml"),
        two_ways=saved(two_ways(), folder / "two_ways.xml"),
    )


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 3, 6, 6)).astype(np.float32)


def test_the_table_has_it_and_it_says_its_version() -> None:
    assert RUNTIMES.load("openvino")().version() == version("openvino")


def test_the_grid_of_codes_at_the_border_is_read_from_the_file(files: Files) -> None:
    session = OpenVINO().open(files.int8)

    ((image,), (scores,)) = session.inputs, session.outputs
    assert (image.name, image.shape, image.dtype) == ("image", (1, 3, 6, 6), "int8")
    assert (scores.name, scores.shape, scores.dtype) == ("scores", (1, 4, 4, 4), "int8")
    for found, written in ((image.quantization, GRID), (scores.quantization, OUT_GRID)):
        assert found is not None
        assert (found.zero_point, found.axis, found.dtype) == (written.zero_point, None, "int8")
        assert found.scale == pytest.approx(written.scale, rel=1e-6)


def test_the_signature_of_a_float_border_has_no_grid(files: Files) -> None:
    for path in (files.float_border, files.float32, files.two_ways):
        session = OpenVINO().open(path)
        assert {item.quantization for item in (*session.inputs, *session.outputs)} == {None}


def test_inputs_are_given_by_name_and_outputs_come_in_order(files: Files) -> None:
    first, second = np.float32([[1, 2, 3], [4, 5, 6]]), np.float32([[1, 1, 1], [2, 2, 2]])

    outputs = OpenVINO().open(files.two_ways).run({"second": second, "first": first})

    assert list(outputs) == ["less", "more"]
    np.testing.assert_array_equal(outputs["less"], first - 2 * second)
    np.testing.assert_array_equal(outputs["more"], first + 1)


def test_int8_runs_in_int8_and_float_stays_float32(files: Files) -> None:
    """Left to itself, OpenVINO computes the float model in bf16 on a CPU that has it."""
    int8, float32 = (OpenVINO().open(path).execution for path in (files.int8, files.float32))

    assert set(int8.types) <= {"i8", "u8"} and sum(int8.types.values()) > 0
    assert set(float32.types) == {"f32"}
    assert (int8.device, int8.notes) == ("CPU", ())


def test_a_float_kernel_behind_codes_is_counted_as_float(tmp_path: Path) -> None:
    """OpenVINO calls the precision of this convolution i8, because its input is; the kernel it runs is that for f32."""
    path = saved(convolution(codes=True, quantized=False), tmp_path / "float_inside.xml")

    assert OpenVINO().open(path).execution.types["f32"] > 0


def test_a_part_that_computes_in_float_is_named(files: Files) -> None:
    execution = OpenVINO().open(files.float_border).execution

    assert execution.types["u8"] > 0
    assert "computed in float: " in execution.notes[0] and "'input grid'" in execution.notes[0]


def test_a_border_of_codes_and_one_of_real_values_say_the_same(files: Files, images: np.ndarray) -> None:
    codes = OpenVINO().open(files.int8).run_float({"image": images})["scores"]
    real = OpenVINO().open(files.float_border).run_float({"image": images})["scores"]

    np.testing.assert_allclose(codes, real, atol=1e-5)
    assert len(np.unique(codes)) > 20


def test_preprocessing_in_the_graph_is_no_grid(tmp_path: Path) -> None:
    """Other tools put the mean and scale of each colour behind an input of bytes, where edgepack puts a grid."""
    from openvino import Model
    from openvino import opset13 as ops

    image = ops.parameter([1, 3, 2, 2], np.uint8, name="image")
    mean = ops.constant(np.float32([120, 115, 104]).reshape(1, 3, 1, 1))
    x = ops.multiply(ops.subtract(ops.convert(image, np.float32), mean), ops.constant(np.float32(1 / 64)))
    path = saved(Model([ops.result(x, name="y")], [image], "bytes"), tmp_path / "bytes.xml")

    session = OpenVINO().open(path)

    assert (session.inputs[0].dtype, session.inputs[0].quantization) == ("uint8", None)
    assert [operator.name for operator in session.operators()] == ["Convert", "Subtract", "Multiply"]
    bytes_ = np.full((1, 3, 2, 2), 184, np.uint8)
    np.testing.assert_allclose(session.run({"image": bytes_})["y"][0, :, 0, 0], [1.0, 69 / 64, 1.25])


def test_every_code_leaves_as_it_is(tmp_path: Path) -> None:
    """OpenVINO's Convert cuts decimals off: a code that was computed a little too small would lose 1."""
    from openvino import Model
    from openvino import opset13 as ops

    x = ops.parameter([1, 256], np.int8, name="x")
    real = ops.multiply(ops.subtract(ops.convert(x, np.float32), np.float32(10)), np.float32(GRID.scale[0]))
    codes = ops.convert(fake_quantize(ops, real, GRID, "codes", to_codes=True), np.int8)
    path = saved(Model([ops.result(codes, name="y")], [x], "codes"), tmp_path / "codes.xml")
    every = np.arange(-128, 128).astype(np.int8).reshape(1, 256)

    np.testing.assert_array_equal(OpenVINO().open(path).run({"x": every})["y"], every)


def test_running_in_codes_and_in_real_values_is_the_same(files: Files, images: np.ndarray) -> None:
    from edgepack.runtimes.grid import quantize

    session = OpenVINO().open(files.int8)
    grid = session.inputs[0].quantization
    assert grid is not None

    outputs = session.run({"image": quantize(images, grid)})["scores"]

    assert outputs.dtype == np.int8
    real = dequantize(outputs, session.outputs[0].quantization)  # type: ignore[arg-type]
    np.testing.assert_array_equal(session.run_float({"image": images})["scores"], real)


def test_no_samples_give_no_outputs(files: Files) -> None:
    assert OpenVINO().open(files.int8).run_float({"image": np.zeros((0, 3, 6, 6), np.float32)})["scores"].shape[0] == 0


def test_kept_tensors_are_the_real_values_of_the_last_sample(files: Files, images: np.ndarray) -> None:
    session: Session = OpenVINO().open(files.int8, keep_tensors=True)

    outputs = session.run_float({"image": images})["scores"]

    tensors = session.tensors()
    assert list(tensors) == ["image", "input grid", "conv grid", "relu grid"]
    np.testing.assert_allclose(tensors["relu grid"], outputs[-1:], atol=1e-5)
    np.testing.assert_allclose(np.maximum(tensors["conv grid"], 0), tensors["relu grid"], atol=1e-5)
    np.testing.assert_allclose(tensors["image"], images[-1:], atol=0.026)
    assert session.operators() == OpenVINO().open(files.int8).operators()


def test_every_tensor_of_a_float_model_is_kept(files: Files, images: np.ndarray) -> None:
    session = OpenVINO().open(files.float32, keep_tensors=True)

    outputs = session.run_float({"image": images})["scores"]

    assert list(session.tensors()) == ["image", "conv", "relu"]
    np.testing.assert_array_equal(session.tensors()["relu"], outputs[-1:])


@pytest.mark.parametrize("identity", [False, True])
def test_a_grid_is_no_operator_unless_nothing_is_fused_into_it(tmp_path: Path, identity: bool) -> None:
    path = saved(convolution(codes=False, quantized=True, identity=identity), tmp_path / "model.xml")

    found = [(item.name, item.inputs, item.outputs) for item in OpenVINO().open(path).operators()]

    assert found == [
        ("QUANTIZE", ("image",), ("input grid",)),
        ("Convolution", ("input grid",), ("conv grid",)),
        ("Relu", ("conv grid",), ("relu grid",)),
    ]


def test_codes_at_the_border_are_no_operators(files: Files) -> None:
    names = [operator.name for operator in OpenVINO().open(files.int8).operators()]

    assert (
        names == [operator.name for operator in OpenVINO().open(files.float32).operators()] == ["Convolution", "Relu"]
    )


def test_tensors_that_were_not_kept_are_a_clear_error(files: Files) -> None:
    with pytest.raises(StageError, match="keep_tensors=True"):
        OpenVINO().open(files.int8).tensors()
    with pytest.raises(StageError, match="run the session first"):
        OpenVINO().open(files.int8, keep_tensors=True).tensors()


def test_a_model_with_an_open_batch_takes_all_samples_at_once(tmp_path: Path, files: Files, images: np.ndarray) -> None:
    path = saved(convolution(codes=True, quantized=True, batch=-1), tmp_path / "open.xml")
    session = OpenVINO().open(path, keep_tensors=True)

    outputs = session.run_float({"image": images})["scores"]

    np.testing.assert_array_equal(outputs, OpenVINO().open(files.int8).run_float({"image": images})["scores"])
    assert session.inputs[0].shape == (1, 3, 6, 6)
    assert session.tensors()["relu grid"].shape == (1, 4, 4, 4)


def test_an_npu_takes_no_open_batch_even_where_the_cpu_stands_in(tmp_path: Path) -> None:
    path = saved(convolution(codes=True, quantized=True, batch=-1), tmp_path / "open.xml")

    with pytest.raises(UnsupportedError, match=r"leave export\.dynamic_batch out"):
        OpenVINO(device="NPU").open(path)


def test_a_model_of_a_larger_batch_is_unsupported(tmp_path: Path) -> None:
    path = saved(convolution(codes=False, quantized=False, batch=2), tmp_path / "wide.xml")

    with pytest.raises(UnsupportedError, match=r"'image' has shape \[2,3,6,6\]; only models of batch size 1"):
        OpenVINO().open(path)


@pytest.mark.parametrize(("device", "note"), [("GPU", "not run on a GPU: "), ("NPU", "not run on an NPU: ")])
def test_a_device_that_is_not_there_is_said_and_the_cpu_runs(
    files: Files, images: np.ndarray, device: Any, note: str
) -> None:

    if device in openvino_core().available_devices:
        pytest.skip(f"this machine has an Intel {device}")

    session = OpenVINO(device=device, inference_precision="f16").open(files.int8)

    assert session.execution.device == "CPU"
    assert session.execution.notes[0].startswith(note)
    plain = OpenVINO().open(files.int8).run_float({"image": images})["scores"]
    np.testing.assert_array_equal(session.run_float({"image": images})["scores"], plain)


def test_sessions_that_end_in_any_order_leave_the_process_able_to_take_a_signal(files: Files) -> None:
    """Each Core has a signal stack of its own: see core/openvino_core.py."""
    code = """
import gc, os, signal, sys
from pathlib import Path
from edgepack.runtimes.openvino import OpenVINO
first, second = (OpenVINO().open(Path(sys.argv[1])) for _ in range(2))
del first; gc.collect()
del second; gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("taken"))
os.kill(os.getpid(), signal.SIGINT)
"""

    ended = subprocess.run([sys.executable, "-c", code, files.int8], capture_output=True, text=True, timeout=120)

    assert (ended.returncode, ended.stdout) == (0, "taken\n"), ended.stderr


def test_another_precision_of_the_float_parts_is_read_back(files: Files) -> None:

    if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16")

    assert "bf16" in OpenVINO(inference_precision="bf16").open(files.float32).execution.types


def cut(path: Path) -> None:
    path.with_suffix(".bin").write_bytes(b"\0" * 10)


def remove(path: Path) -> None:
    path.with_suffix(".bin").unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def replace(path: Path) -> None:
    path.write_bytes(b"no model" * 100)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"model\.xml: not a whole OpenVINO IR: .*; model\.bin belongs beside it"),
        (remove, r"model\.xml: not a whole OpenVINO IR: .*; model\.bin belongs beside it"),
        (truncate, r"model\.xml: not a whole OpenVINO IR: "),
        (replace, r"model\.xml: not an OpenVINO IR"),
        (Path.unlink, r"model\.xml: no such model file"),
    ],
)
def test_a_damaged_model_is_a_clear_error(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = saved(convolution(codes=True, quantized=True), tmp_path / "model.xml")
    damage(path)

    with pytest.raises(StageError, match=message) as failure:
        OpenVINO().open(path)

    assert "src/" not in str(failure.value)


def test_an_operator_that_this_openvino_lacks_is_unsupported(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "newer.xml"
    path.write_text(files.float32.read_text().replace('type="ReLU"', 'type="Mystery"'))
    path.with_suffix(".bin").write_bytes(files.float32.with_suffix(".bin").read_bytes())

    with pytest.raises(UnsupportedError, match="Mystery"):
        OpenVINO().open(path)


def test_inputs_that_do_not_fit_are_refused(files: Files, images: np.ndarray) -> None:
    session = OpenVINO().open(files.int8)

    with pytest.raises(StageError, match="did you mean 'image'"):
        session.run_float({"imgae": images})
    with pytest.raises(StageError, match="no values for the input 'image'"):
        session.run_float({})
    with pytest.raises(StageError, match=r"takes int8 of shape \(N, 3, 6, 6\)"):
        session.run({"image": images})
    with pytest.raises(DataError, match="NaN"):
        session.run_float({"image": np.full_like(images, np.nan)})
