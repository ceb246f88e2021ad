from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from edgepack.core.digest import sha256_file
from edgepack.core.errors import DataError, StageError, UnsupportedError
from edgepack.runtimes import RUNTIMES, Session
from edgepack.runtimes.grid import dequantize, quantize
from edgepack.runtimes.litert import LiteRT, artifact_of, signature_of


def edited(source: Path, target: Path, edit) -> Path:
    """A copy of a .tflite file with a change that no converter would make."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(source.read_bytes()), 0))
    edit(model)
    builder = Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return target


def expected(models, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return models.net(torch.from_numpy(images)).numpy()


def test_the_table_has_it_and_it_says_its_version() -> None:
    runtime = RUNTIMES.load("litert")()

    assert runtime.version() == version("ai-edge-litert")


def test_signatures_have_the_names_shapes_and_grids_of_the_file(models) -> None:
    (image,), (scores,) = signature_of(models.int8)

    assert (image.name, image.shape, image.dtype) == ("args_0", (1, 1, 8, 8), "int8")
    assert (scores.name, scores.shape, scores.dtype) == ("output_0", (1, 5), "int8")
    assert image.quantization is not None
    assert image.quantization.axis is None
    assert image.quantization.dtype == "int8"
    assert 0.01 < image.quantization.step < 0.1


def test_the_signature_of_a_float_model_has_no_grid(models) -> None:
    inputs, outputs = signature_of(models.two_ways)

    assert [(tensor.name, tensor.dtype, tensor.quantization) for tensor in (*inputs, *outputs)] == [
        ("args_0", "float32", None),
        ("args_1", "float32", None),
        ("output_0", "float32", None),
        ("output_1", "float32", None),
    ]


def test_inputs_are_given_by_name_and_outputs_come_in_order(models) -> None:
    session = LiteRT().open(models.two_ways)
    first, second = np.float32([[1, 2, 3], [4, 5, 6]]), np.float32([[1, 1, 1], [2, 2, 2]])

    outputs = session.run({"args_1": second, "args_0": first})

    assert list(outputs) == ["output_0", "output_1"]
    np.testing.assert_array_equal(outputs["output_0"], first - 2 * second)
    np.testing.assert_array_equal(outputs["output_1"], first + 1)


def test_a_float_session_agrees_with_torch_on_many_samples(models, images: np.ndarray) -> None:
    outputs = LiteRT().open(models.float32).run_float({"args_0": images})

    assert outputs["output_0"].dtype == np.float32
    np.testing.assert_allclose(outputs["output_0"], expected(models, images), atol=1e-5)


@pytest.mark.parametrize("keep_tensors", [False, True])
def test_an_int8_session_agrees_with_torch_within_a_few_steps(models, images: np.ndarray, keep_tensors: bool) -> None:
    session = LiteRT().open(models.int8, keep_tensors=keep_tensors)

    outputs = session.run_float({"args_0": images})

    grid = session.outputs[0].quantization
    assert np.abs(outputs["output_0"] - expected(models, images)).max() <= 4 * grid.step
    np.testing.assert_array_equal(dequantize(quantize(outputs["output_0"], grid), grid), outputs["output_0"])


def test_running_in_codes_and_in_real_values_is_the_same(models, images: np.ndarray) -> None:
    session = LiteRT().open(models.int8)
    codes = quantize(images, session.inputs[0].quantization)

    outputs = session.run({"args_0": codes})

    assert outputs["output_0"].dtype == np.int8
    real = dequantize(outputs["output_0"], session.outputs[0].quantization)
    np.testing.assert_array_equal(session.run_float({"args_0": images})["output_0"], real)


def test_a_float_border_around_int8_gives_the_same_values(models, images: np.ndarray) -> None:
    border = LiteRT().open(models.float_border)
    inside = LiteRT().open(models.int8)

    assert border.inputs[0].quantization is None
    np.testing.assert_array_equal(
        border.run_float({"args_0": images})["output_0"], inside.run_float({"args_0": images})["output_0"]
    )


def test_quantizing_here_is_what_the_reference_kernel_does_even_on_halves(models) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(models.float_border),
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    grid = signature_of(models.int8)[0][0].quantization
    halves = (np.arange(-32, 32, dtype=np.float32) + np.float32(0.5)) * np.float32(grid.scale[0])
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], halves.reshape(1, 1, 8, 8))
    interpreter.invoke()
    (code_index,) = [op["outputs"][0] for op in interpreter._get_ops_details() if op["op_name"] == "QUANTIZE"]

    np.testing.assert_array_equal(interpreter.get_tensor(code_index).ravel(), quantize(halves, grid))


def test_no_samples_give_no_outputs(models) -> None:
    outputs = LiteRT().open(models.int8).run_float({"args_0": np.zeros((0, 1, 8, 8), np.float32)})

    assert outputs["output_0"].shape == (0, 5)


def test_kept_tensors_are_the_real_values_of_the_last_sample(models, images: np.ndarray) -> None:
    session = LiteRT().open(models.int8, keep_tensors=True)

    outputs = session.run_float({"args_0": images})

    tensors = session.tensors()
    produced = [name for operator in session.operators() for name in operator.outputs]
    assert list(tensors)[1:] == produced  # the input, then every operator's output; no weights
    assert all(array.dtype == np.float32 for array in tensors.values())
    np.testing.assert_array_equal(tensors[produced[-1]], outputs["output_0"][-1:])
    with torch.no_grad():
        hidden = torch.relu(models.net.conv(torch.from_numpy(images[-1:]))).numpy()
    (conv,) = [operator.outputs[0] for operator in session.operators() if "CONV" in operator.name]
    np.testing.assert_allclose(
        np.sort(tensors[conv], axis=None), np.sort(hidden, axis=None), atol=0.05
    )  # about one step of the input


def test_operators_are_the_same_with_and_without_a_delegate(models) -> None:
    session: Session = LiteRT().open(models.int8)

    names = [operator.name for operator in session.operators()]
    assert names == ["RESHAPE", "PAD", "DEPTHWISE_CONV_2D", "TRANSPOSE", "RESHAPE", "FULLY_CONNECTED"]
    assert session.operators() == LiteRT().open(models.int8, keep_tensors=True).operators()
    assert session.operators()[0].inputs[0] == "serving_default_args_0"


def test_equal_tensor_names_are_told_apart(models, images: np.ndarray, tmp_path: Path) -> None:
    def rename(model) -> None:
        model.signatureDefs = None
        for tensor in model.subgraphs[0].tensors:
            tensor.name = b"same"

    session = LiteRT().open(edited(models.float32, tmp_path / "same.tflite", rename), keep_tensors=True)
    session.run({"same": images[:1]})

    assert len(session.tensors()) == 7
    assert next(iter(session.tensors())) == "same"
    assert all(name.startswith("same#") for name in list(session.tensors())[1:])
    assert session.inputs[0].name == "same"


def test_tensors_that_were_not_kept_are_a_clear_error(models) -> None:
    with pytest.raises(StageError, match="keep_tensors=True"):
        LiteRT().open(models.int8).tensors()
    with pytest.raises(StageError, match="run the session first"):
        LiteRT().open(models.int8, keep_tensors=True).tensors()


@pytest.mark.parametrize("content", [b"", b"no model" * 100, None])
def test_a_file_that_is_no_model_is_a_clear_error(models, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.tflite"
    whole = models.int8.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)

    with pytest.raises(StageError, match=r"broken\.tflite: not a whole LiteRT model"):
        LiteRT().open(path)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no such model file"):
        LiteRT().open(tmp_path / "none.tflite")


def test_an_operator_that_this_runtime_lacks_is_unsupported(models, tmp_path: Path) -> None:
    def make_custom(model) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = b"Mystery"

    def make_newer(model) -> None:
        model.operatorCodes[0].version = 99

    with pytest.raises(UnsupportedError, match="Mystery"):
        LiteRT().open(edited(models.float32, tmp_path / "custom.tflite", make_custom))
    with pytest.raises(UnsupportedError, match="version '99'"):
        LiteRT().open(edited(models.float32, tmp_path / "newer.tflite", make_newer))


def test_a_model_of_a_larger_batch_is_unsupported(models, tmp_path: Path) -> None:
    def widen(model) -> None:
        for tensor in model.subgraphs[0].tensors:
            if len(tensor.shape) == 2:
                tensor.shape = [2, 3]

    with pytest.raises(UnsupportedError, match="batch size 1"):
        LiteRT().open(edited(models.two_ways, tmp_path / "wide.tflite", widen))


def test_inputs_that_do_not_fit_are_refused(models, images: np.ndarray) -> None:
    session = LiteRT().open(models.int8)

    with pytest.raises(StageError, match="did you mean 'args_0'"):
        session.run_float({"args_1": images})
    with pytest.raises(StageError, match="no values for the input 'args_0'"):
        session.run_float({})
    with pytest.raises(StageError, match=r"takes int8 of shape \(N, 1, 8, 8\)"):
        session.run({"args_0": images})
    with pytest.raises(StageError, match=r"got int8 of shape \(6, 8, 8\)"):
        session.run_float({"args_0": images[:, 0]})
    with pytest.raises(DataError, match="NaN"):
        session.run_float({"args_0": np.full_like(images, np.nan)})


def test_two_inputs_need_the_same_number_of_samples(models) -> None:
    with pytest.raises(StageError, match="the same N"):
        LiteRT().open(models.two_ways).run(
            {"args_0": np.zeros((2, 3), np.float32), "args_1": np.zeros((1, 3), np.float32)}
        )


def test_an_artifact_is_named_by_its_digest(models) -> None:
    artifact = artifact_of(models.int8, layouts={"args_0": "NCHW"})

    assert artifact.sha256 == sha256_file(models.int8)
    assert artifact.size_bytes == models.int8.stat().st_size
    assert (artifact.format, artifact.inputs[0].layout, artifact.outputs[0].layout) == ("tflite", "NCHW", "any")
    with pytest.raises(StageError, match="no input or output 'image'"):
        artifact_of(models.int8, layouts={"image": "NCHW"})
