"""The old runtime runs the same files; its kernels may round a value to the neighbouring step."""

from __future__ import annotations

import ast
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from edgepack.core.errors import EnvironmentProblem, StageError, UnsupportedError
from edgepack.runtimes.litert import LiteRT
from edgepack.runtimes.tflite_runtime import PYTHON_VARIABLE, TfliteRuntime
from edgepack.runtimes.tflite_session import TfliteSession

AGENT = Path(__file__).resolve().parent.parent.parent / "edgepack" / "agent" / "tflite_worker.py"


@pytest.fixture(scope="session")
def runtime() -> TfliteRuntime:
    runtime = TfliteRuntime()
    try:
        runtime.version()
    except EnvironmentProblem as exc:
        pytest.skip(str(exc))
    return runtime


def edited(source: Path, target: Path, edit) -> Path:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(source.read_bytes()), 0))
    edit(model)
    builder = Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return target


def worker_pid(session: TfliteSession) -> int:
    return session._engine._worker._process.pid


def test_its_version_is_that_of_the_old_package(runtime: TfliteRuntime) -> None:
    assert runtime.version().startswith("2.")


def test_a_file_has_the_same_borders_operators_and_types_in_both_runtimes(runtime: TfliteRuntime, models) -> None:
    for path in (models.int8, models.float32, models.float_border, models.two_ways):
        old, new = runtime.open(path), LiteRT().open(path)

        assert old.inputs == new.inputs
        assert old.outputs == new.outputs
        assert old.operators() == new.operators()
        assert old.execution == new.execution


def test_float_outputs_are_those_of_litert(runtime: TfliteRuntime, models, images: np.ndarray) -> None:
    old = runtime.open(models.float32).run_float({"args_0": images})
    new = LiteRT().open(models.float32).run_float({"args_0": images})

    np.testing.assert_allclose(old["output_0"], new["output_0"], atol=1e-5)


@pytest.mark.parametrize("keep_tensors", [False, True])
def test_int8_outputs_are_within_two_steps_of_litert(
    runtime: TfliteRuntime, models, images: np.ndarray, keep_tensors: bool
) -> None:
    session = runtime.open(models.int8, keep_tensors=keep_tensors)

    old = session.run_float({"args_0": images})["output_0"]

    new = LiteRT().open(models.int8).run_float({"args_0": images})["output_0"]
    assert old.dtype == np.float32
    assert np.abs(old - new).max() <= 2 * session.outputs[0].quantization.step


def test_inputs_go_by_name_and_many_samples_in_order(runtime: TfliteRuntime, models) -> None:
    session = runtime.open(models.two_ways)
    first = np.arange(300, dtype=np.float32).reshape(100, 3)  # more than go in one question
    second = np.ones((100, 3), np.float32)

    outputs = session.run({"args_1": second, "args_0": first})

    np.testing.assert_array_equal(outputs["output_0"], first - 2)
    np.testing.assert_array_equal(outputs["output_1"], first + 1)


def test_no_samples_give_no_outputs(runtime: TfliteRuntime, models) -> None:
    outputs = runtime.open(models.int8).run_float({"args_0": np.zeros((0, 1, 8, 8), np.float32)})

    assert outputs["output_0"].shape == (0, 5)


def test_kept_tensors_are_the_real_values_of_the_last_sample(
    runtime: TfliteRuntime, models, images: np.ndarray
) -> None:
    session = runtime.open(models.int8, keep_tensors=True)

    outputs = session.run_float({"args_0": images})

    tensors = session.tensors()
    assert list(tensors)[1:] == [name for operator in session.operators() for name in operator.outputs]
    np.testing.assert_array_equal(tensors[session.operators()[-1].outputs[0]], outputs["output_0"][-1:])


@pytest.mark.parametrize("content", [b"", b"no model" * 100, None])
def test_a_file_that_is_no_model_is_a_clear_error(
    runtime: TfliteRuntime, models, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "broken.tflite"
    whole = models.int8.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)

    with pytest.raises(StageError, match=r"broken\.tflite: not a whole TensorFlow Lite model"):
        runtime.open(path)


def test_operators_and_versions_that_it_lacks_are_unsupported(runtime: TfliteRuntime, models, tmp_path: Path) -> None:
    def make_newer(model) -> None:
        model.operatorCodes[0].version = 99

    with pytest.raises(UnsupportedError, match="version '99'"):
        runtime.open(edited(models.float32, tmp_path / "newer.tflite", make_newer))


def test_a_model_of_a_larger_batch_is_unsupported(runtime: TfliteRuntime, models, tmp_path: Path) -> None:
    def widen(model) -> None:
        for tensor in model.subgraphs[0].tensors:
            if len(tensor.shape) == 2:
                tensor.shape = [2, 3]

    with pytest.raises(UnsupportedError, match="batch size 1"):
        runtime.open(edited(models.two_ways, tmp_path / "wide.tflite", widen))


def test_a_crash_of_the_old_runtime_is_an_error_that_names_the_model(
    runtime: TfliteRuntime, models, images: np.ndarray
) -> None:
    session = runtime.open(models.int8)
    os.kill(worker_pid(session), signal.SIGSEGV)

    with pytest.raises(StageError, match=r"tflite: tflite-runtime: the worker process was killed by signal 11"):
        session.run_float({"args_0": images})


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no such model file"):
        TfliteRuntime().open(tmp_path / "none.tflite")


def test_without_its_interpreter_it_says_how_to_make_one(
    models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))

    with pytest.raises(EnvironmentProblem, match="make tflite-runtime"):
        TfliteRuntime().open(models.int8)
    with pytest.raises(EnvironmentProblem, match="no-python: no such interpreter"):
        TfliteRuntime(python=str(tmp_path / "no-python")).open(models.int8)


def test_an_interpreter_without_the_package_says_so(models) -> None:
    runtime = TfliteRuntime(python=sys.executable)

    with pytest.raises(EnvironmentProblem, match="tflite-runtime is not installed"):
        runtime.version()
    with pytest.raises(EnvironmentProblem, match="can't be imported"):
        runtime.open(models.int8)


def test_the_worker_is_python_3_9_and_imports_the_standard_library_only() -> None:
    tree = ast.parse(AGENT.read_text(encoding="utf-8"), feature_version=(3, 9))

    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}

    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
