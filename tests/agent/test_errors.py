"""What each runtime says of a file that is too new for it, by real files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.agent.bench.errors import EXIT_CODES, described
from edgepack.core.errors import EnvironmentProblem
from edgepack.devices.agent import agent_file
from edgepack.runtimes.tflite_runtime import TfliteRuntime


def failure(model: Path, runtime: str, **spec: object) -> tuple[str, str]:
    question = model.with_suffix(".spec.json")
    question.write_text(json.dumps({"model": str(model), "runtime": runtime, "max_s": 1, **spec}))
    done = subprocess.run([sys.executable, agent_file(), question], capture_output=True, text=True, timeout=120)
    event = json.loads(done.stdout.splitlines()[-1])
    assert event["event"] == "error", event
    assert done.returncode == EXIT_CODES[event["kind"]]
    return event["kind"], event["message"]


def newer_tflite(source: Path, target: Path, *, custom: bool) -> Path:
    """The file with operators of a version that no runtime has, or of a name that none has."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(source.read_bytes(), 0))
    for code in model.operatorCodes:
        if custom:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = b"Fancy"
        else:
            code.version = 99
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return target


def onnx_file(path: Path, operator: str, *, domain: str = "", ir_version: int = 10, opset: int = 21) -> Path:
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "graph", values[:1], values[1:])
    sets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=ir_version), path)
    return path


@pytest.mark.parametrize("runtime", ["litert", "tflite_runtime"])
def test_a_runtime_that_is_too_old_for_a_tflite_operator_names_it(
    runtime: str, tiny_tflite: Path, tmp_path: Path
) -> None:
    if runtime == "tflite_runtime":
        try:
            TfliteRuntime().version()
        except EnvironmentProblem as exc:
            pytest.skip(str(exc))

    kind, message = failure(newer_tflite(tiny_tflite, tmp_path / "newer.tflite", custom=False), runtime)

    assert kind == "operator"
    assert "version 99; install a newer runtime" in message


def test_an_unknown_custom_operator_is_named(tiny_tflite: Path, tmp_path: Path) -> None:
    kind, message = failure(newer_tflite(tiny_tflite, tmp_path / "custom.tflite", custom=True), "litert")

    assert kind == "operator"
    assert "no operator Fancy;" in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"operator": "Relu", "ir_version": 99}, "ONNX IR version 99"),
        ({"operator": "Relu", "opset": 99}, "ONNX operator set 99"),
        ({"operator": "Fancy"}, "operator Fancy version 21"),
        ({"operator": "Fancy", "domain": "com.foo"}, "operator com.foo:Fancy"),
    ],
)
def test_onnx_runtime_names_what_it_lacks(settings: dict[str, object], words: str, tmp_path: Path) -> None:
    kind, message = failure(onnx_file(tmp_path / "new.onnx", **settings), "onnxruntime")  # type: ignore[arg-type]

    assert kind == "operator"
    assert f"it has no {words};" in message


@pytest.mark.parametrize(
    ("kind_and_set", "words"), [(("Relu", "opset99"), "Relu version opset99"), (("Fancy", "opset1"), "Fancy")]
)
def test_openvino_names_what_it_lacks(kind_and_set: tuple[str, str], words: str, tmp_path: Path) -> None:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    openvino.save_model(openvino.Core().read_model(onnx_file(tmp_path / "relu.onnx", "Relu")), tmp_path / "relu.xml")
    text = (tmp_path / "relu.xml").read_text()
    new = 'type="{}" version="{}"'.format(*kind_and_set)
    assert 'type="ReLU" version="opset1"' in text
    (tmp_path / "relu.xml").write_text(text.replace('type="ReLU" version="opset1"', new))

    kind, message = failure(tmp_path / "relu.xml", "openvino")

    assert kind == "operator"
    assert f"operator {words}" in message


def test_a_model_that_needs_more_memory_than_there_is_says_so(tmp_path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape = numpy_helper.from_array(np.array([1 << 46], np.int64), "shape")
    graph = helper.make_graph(
        [helper.make_node("Expand", ["x", "shape"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [shape],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "big.onnx"
    )

    kind, message = failure(tmp_path / "big.onnx", "onnxruntime")

    assert kind == "memory"
    assert "too little memory for this model" in message
    assert "build a smaller model" in message


def test_pythons_own_lack_of_memory_is_the_same_kind() -> None:
    assert described(MemoryError(), doing="inference").kind == "memory"


def test_cores_that_are_not_there_are_refused_with_those_that_are(tiny_tflite: Path) -> None:
    kind, message = failure(tiny_tflite, "litert", cores=[4096])

    assert kind == "spec"
    assert "may use [0" in message


def test_a_delegate_that_can_not_be_loaded_is_told(tiny_tflite: Path) -> None:
    kind, message = failure(tiny_tflite, "litert", options={"delegate": "/no/libdelegate.so"})

    assert kind == "runtime"
    assert "/no/libdelegate.so can't be loaded" in message


def test_a_full_disk_is_told(tiny_tflite: Path) -> None:
    bounds = {"warmup_max_s": 0, "duration_min_s": 0}

    kind, message = failure(tiny_tflite, "litert", outputs="/dev/full", **bounds)

    assert kind == "output"
    assert "the device's disk is full" in message
    assert "free some space there" in message


def test_an_answer_that_nobody_can_take_ends_the_process(tiny_tflite: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"model": str(tiny_tflite)}))

    with Path("/dev/full").open("w") as full:
        command = [sys.executable, agent_file(), tmp_path / "spec.json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)

    assert done.returncode == EXIT_CODES["output"]
    assert "the answer can't be written: No space left on device" in done.stderr


def test_a_reader_that_went_away_ends_the_process_at_the_next_samples(tiny_tflite: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"model": str(tiny_tflite), "duration_min_s": 60}))
    command = [sys.executable, agent_file(), tmp_path / "spec.json"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()

        assert process.wait(timeout=20) == EXIT_CODES["output"]
