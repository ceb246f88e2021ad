from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepack
from edgepack.agent.bench.errors import EXIT_CODES
from edgepack.agent.bench.runtimes import RUNTIMES as AGENT_RUNTIMES
from edgepack.agent.bench.runtimes import runtime_class
from edgepack.core.errors import EnvironmentProblem
from edgepack.core.openvino_core import openvino_core
from edgepack.devices.agent import agent_file
from edgepack.runtimes import RUNTIMES
from edgepack.runtimes.openvino_graph import execution_types
from edgepack.runtimes.tflite_runtime import TfliteRuntime

SOURCE = Path(edgepack.__file__).parent / "agent" / "bench"
QUICK = {"warmup_max_s": 0, "duration_min_s": 0}  # the least iterations, stable or not


def ask(
    spec: Any, folder: Path, *flags: str, env: dict[str, str] | None = None, python: str = sys.executable
) -> tuple[int, dict[str, Any], str]:
    """Exit code, all events put together and stderr of the agent, run as the device would: away from the source tree."""
    file = folder / "spec.json"
    file.write_text(spec if isinstance(spec, str) else json.dumps({**QUICK, **spec} if "model" in spec else spec))
    command = [python, *flags, str(agent_file()), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, env=env)
    answer: dict[str, Any] = {"warmup_ns": [], "samples_ns": [], "during": []}
    for event in map(json.loads, done.stdout.splitlines()):
        if event["event"] == "samples":
            answer["warmup_ns" if event["kind"] == "warmup" else "samples_ns"] += event["ns"]
        elif event["event"] == "state":
            answer["during"].append(event["state"])
        else:
            answer |= event
    return done.returncode, answer, done.stderr


def failure(spec: Any, folder: Path, **settings: Any) -> tuple[str, str]:
    code, answer, _ = ask(spec, folder, **settings)
    assert answer["event"] == "error"
    assert code == EXIT_CODES[answer["kind"]]
    return answer["kind"], answer["message"]


def test_every_sample_is_kept_and_warm_up_apart(tiny_tflite: Path, tmp_path: Path) -> None:
    spec = {"model": str(tiny_tflite), "warmup_min_iterations": 3, "iterations_min": 7}

    code, answer, _ = ask(spec, tmp_path)

    assert code == 0
    assert (len(answer["warmup_ns"]), len(answer["samples_ns"])) == (3, 7)
    assert all(isinstance(sample, int) and sample > 0 for sample in answer["samples_ns"])
    assert answer["load_ms"] > 0
    assert answer["first_ms"] > 0
    assert answer["stopped_early"] is False
    assert answer["model_sha256"] == hashlib.sha256(tiny_tflite.read_bytes()).hexdigest()


def test_the_longer_of_both_minima_ends_the_measurement(tiny_tflite: Path, tmp_path: Path) -> None:
    code, answer, _ = ask({"model": str(tiny_tflite), "iterations_min": 5, "duration_min_s": 0.1}, tmp_path)

    assert code == 0
    assert len(answer["samples_ns"]) > 5, "0.1 s hold far more than 5 of these"


def test_the_time_bound_leaves_one_sample_and_says_so(tiny_tflite: Path, tmp_path: Path) -> None:
    _, answer, _ = ask({"model": str(tiny_tflite), "max_s": 0}, tmp_path)

    assert (len(answer["warmup_ns"]), len(answer["samples_ns"])) == (0, 1)
    assert answer["stopped_early"] is True


def test_memory_is_the_peak_of_this_process_from_the_load_on(tiny_tflite: Path, tmp_path: Path) -> None:
    memory = ask({"model": str(tiny_tflite)}, tmp_path)[1]["memory"]

    assert memory["peak_bytes"] >= memory["after_run_bytes"] > 0
    assert memory["before_load_bytes"] > 0
    assert memory["peak_not_reset"] is None or "clear_refs" in memory["peak_not_reset"]
    assert memory["major_faults"] >= 0


def test_what_the_device_does_not_tell_is_null_with_a_reason(tiny_tflite: Path, tmp_path: Path) -> None:
    _, answer, _ = ask({"model": str(tiny_tflite)}, tmp_path)

    for part in (answer["before"], answer["after"], answer["environment"]):
        untold = {name for name, value in part.items() if value is None} - {"emulated"}
        assert untold == set(part["missing"]) - {"energy"}
    assert answer["environment"]["runtime"] == "ai_edge_litert"
    assert answer["environment"]["cores"] >= answer["environment"]["usable_cores"] >= 1


def test_given_samples_are_run_and_their_outputs_written(tiny_tflite: Path, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    samples = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "in.npy", samples)
    runner = Interpreter(str(tiny_tflite)).get_signature_runner()
    (input_name,) = runner.get_input_details()
    (output_name,) = runner.get_output_details()
    spec = {
        "model": str(tiny_tflite),
        "inputs": {input_name: str(tmp_path / "in.npy")},
        "outputs": str(tmp_path / "out"),
    }

    code, _, _ = ask(spec, tmp_path)

    expected = np.concatenate([runner(**{input_name: sample[None]})[output_name] for sample in samples])
    assert code == 0
    with np.load(tmp_path / "out") as outputs:
        assert list(outputs) == [output_name]
        np.testing.assert_allclose(outputs[output_name], expected, rtol=1e-6, atol=1e-6)


def test_random_samples_depend_on_the_seed_only(tiny_tflite: Path, tmp_path: Path) -> None:
    spec = {"model": str(tiny_tflite), "iterations_min": 1}

    outputs = []
    for number, seed in enumerate((0, 0, 1)):
        ask({**spec, "seed": seed, "outputs": str(tmp_path / f"{number}.npz")}, tmp_path)
        with np.load(tmp_path / f"{number}.npz") as file:
            outputs.append(file[file.files[0]])

    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3, 8, 8), np.float64), "float64"),
        (np.zeros((2, 8, 8, 3), np.float32), "(2, 8, 8, 3)"),
        (np.zeros((0, 3, 8, 8), np.float32), "(0, 3, 8, 8)"),
    ],
)
def test_samples_that_do_not_fit_are_refused(tiny_tflite: Path, tmp_path: Path, array: Any, words: str) -> None:
    np.save(tmp_path / "in.npy", array)

    kind, message = failure({"model": str(tiny_tflite), "inputs": {"args_0": str(tmp_path / "in.npy")}}, tmp_path)

    assert kind == "inputs"
    assert words in message


def test_an_unknown_input_name_is_refused_with_the_known_ones(tiny_tflite: Path, tmp_path: Path) -> None:
    kind, message = failure({"model": str(tiny_tflite), "inputs": {"image": "x.npy"}}, tmp_path)

    assert kind == "inputs"
    assert "args_0" in message


def test_a_missing_model_is_an_error_in_json(tmp_path: Path) -> None:
    kind, message = failure({"model": str(tmp_path / "no.tflite")}, tmp_path)

    assert kind == "model"
    assert "no.tflite" in message


def test_a_damaged_model_is_an_error_in_json(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"not a model" * 100)

    assert failure({"model": str(tmp_path / "bad.tflite")}, tmp_path)[0] == "model"


@pytest.mark.parametrize("spec", ["{", "[]", {}, {"model": "m", "thread": 1}, {"model": "m", "runtime": "no"}])
def test_a_wrong_spec_is_an_error_in_json(spec: Any, tmp_path: Path) -> None:
    assert failure(spec, tmp_path)[0] == "spec"


def test_the_spec_may_come_on_stdin(tmp_path: Path) -> None:
    command = [sys.executable, agent_file()]

    done = subprocess.run(command, input='{"model": 1}', capture_output=True, text=True, cwd=tmp_path)

    assert json.loads(done.stdout)["kind"] == "spec"


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """int8 codes 'image' (1, 4) → 'codes' int8 (1, 3) and 'real' float32 (1, 3), by a matrix of 2 in float."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    scale, zero = numpy_helper.from_array(np.float32(0.5), "scale"), numpy_helper.from_array(np.int8(3), "zero")
    weight = numpy_helper.from_array(np.full((4, 3), 2, np.float32), "weight")
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["image", "scale", "zero"], ["x"]),
            helper.make_node("MatMul", ["x", "weight"], ["real"]),
            helper.make_node("QuantizeLinear", ["real", "scale", "zero"], ["codes"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.INT8, [1, 4])],
        [
            helper.make_tensor_value_info("codes", TensorProto.INT8, [1, 3]),
            helper.make_tensor_value_info("real", TensorProto.FLOAT, [1, 3]),
        ],
        [scale, zero, weight],
    )
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def ir_file(onnx_file: Path) -> Path:
    """The same network as an OpenVINO IR."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    path = onnx_file.with_name("tiny.xml")
    model = openvino_core().read_model(onnx_file)
    for node, name in zip(model.get_results(), ("codes", "real"), strict=True):
        node.set_friendly_name(name)
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_codes_go_in_by_name_and_both_outputs_come_out(
    runtime: str, onnx_file: Path, ir_file: Path, tmp_path: Path
) -> None:
    model = {"onnxruntime": onnx_file, "openvino": ir_file}[runtime]
    codes = np.array([[3, 3, 3, 5], [3, 1, 3, 3], [-128, 127, 3, 3]], np.int8)
    np.save(tmp_path / "in.npy", codes)
    inputs = {"image": str(tmp_path / "in.npy")}
    spec = {"model": str(model), "runtime": runtime, "inputs": inputs, "outputs": str(tmp_path / "out.npz")}

    code, answer, _ = ask({**spec, "iterations_min": 5}, tmp_path)

    assert code == 0, answer
    assert len(answer["samples_ns"]) == 5
    assert answer["environment"]["runtime"] == runtime
    assert answer["environment"]["runtime_version"] == version(runtime)
    with np.load(tmp_path / "out.npz") as outputs:
        real = ((codes.astype(np.float32) - 3) * 0.5).sum(1, keepdims=True) * 2 * np.ones((1, 3), np.float32)
        np.testing.assert_array_equal(outputs["real"], real)
        np.testing.assert_array_equal(outputs["codes"], np.clip(real / 0.5 + 3, -128, 127).astype(np.int8))


def test_each_runtime_tells_what_ran(tiny_tflite: Path, onnx_file: Path, ir_file: Path, tmp_path: Path) -> None:

    told = {}
    for runtime, model in (("litert", tiny_tflite), ("onnxruntime", onnx_file), ("openvino", ir_file)):
        code, answer, _ = ask({"model": str(model), "runtime": runtime}, tmp_path)
        assert code == 0, answer
        told[runtime] = answer["execution"]

    parts = ("device", "types", "notes")
    assert told["litert"]["types"] == RUNTIMES.load("litert")().open(tiny_tflite).execution.types
    assert {part: told["onnxruntime"][part] for part in parts} == {
        "device": "CPUExecutionProvider",
        "types": {},
        "notes": [],
    }
    compiled = openvino_core().compile_model(ir_file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert {part: told["openvino"][part] for part in parts} == {
        "device": "CPU",
        "types": execution_types(compiled)[0],
        "notes": [],
    }


@pytest.mark.parametrize(
    ("runtime", "options", "note"),
    [
        ("onnxruntime", {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}, "CUDAExecutionProvider"),
        ("openvino", {"device": "NPU"}, "NPU"),
    ],
)
def test_a_device_that_is_not_there_is_told(
    runtime: str, options: dict[str, Any], note: str, onnx_file: Path, ir_file: Path, tmp_path: Path
) -> None:
    model = {"onnxruntime": onnx_file, "openvino": ir_file}[runtime]

    code, answer, _ = ask({"model": str(model), "runtime": runtime, "options": options}, tmp_path)

    assert code == 0, answer
    execution = answer["execution"]
    if note not in execution["device"]:  # a machine that has one measures there
        assert len(execution["notes"]) == 1
        assert note in execution["notes"][0]


def test_an_unknown_option_is_refused_with_the_known_ones(onnx_file: Path, tmp_path: Path) -> None:
    spec = {"model": str(onnx_file), "runtime": "onnxruntime", "options": {"provider": []}}

    kind, message = failure(spec, tmp_path)

    assert kind == "spec"
    assert "providers" in message


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "litert"])
def test_a_damaged_model_is_told_by_every_runtime(runtime: str, tmp_path: Path) -> None:
    (tmp_path / "bad.xml").write_bytes(b"not a model" * 100)

    assert failure({"model": str(tmp_path / "bad.xml"), "runtime": runtime}, tmp_path)[0] == "model"


def test_the_old_runtime_is_measured_in_its_own_python(tiny_tflite: Path, tmp_path: Path) -> None:
    try:
        old = TfliteRuntime()
        installed = old.version()
    except EnvironmentProblem as exc:
        pytest.skip(str(exc))

    code, answer, _ = ask(
        {"model": str(tiny_tflite), "runtime": "tflite_runtime", "options": old.model_dump()},
        tmp_path,
    )

    assert code == 0, answer
    assert answer["environment"]["runtime_version"] == installed
    assert answer["environment"]["numpy"].startswith("1.")


def test_without_the_old_runtime_it_says_what_to_install(tiny_tflite: Path, tmp_path: Path) -> None:
    environment = bare_python(tmp_path, "numpy")

    for options in ({}, {"python": sys.executable}):  # here it isn't, either; that is tried once
        code, answer, _ = ask(
            {"model": str(tiny_tflite), "runtime": "tflite_runtime", "options": options},
            tmp_path,
            "-S",
            env=environment | {"EDGEPACK_TFLITE_RUNTIME_PYTHON": ""},
        )

        assert code == EXIT_CODES["runtime"]
        assert answer["kind"] == "runtime"
        assert "install tflite-runtime" in answer["message"]


def test_the_agent_knows_every_runtime_and_its_options() -> None:
    """What a target's [runtime_options] may say is what the agent is told; a delegate is a device's, no target's."""
    assert set(RUNTIMES) <= set(AGENT_RUNTIMES)
    for name in RUNTIMES:
        options = set(runtime_class(name).OPTIONS) - {"delegate", "delegate_options"}
        assert set(RUNTIMES.load(name).model_fields) == options, name


def bare_python(folder: Path, *packages: str) -> dict[str, str]:
    """An environment in which `python -S` sees only these packages of this interpreter, never edgepack."""
    site = folder / "site"
    site.mkdir()
    for package in packages:
        (spec,) = __import__(package).__path__
        for found in Path(spec).parent.glob(f"{package}*"):
            (site / found.name).symlink_to(found)
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(site)}


def test_it_needs_only_numpy_and_a_runtime(tiny_tflite: Path, tmp_path: Path) -> None:
    environment = bare_python(tmp_path, "numpy", "ai_edge_litert")

    code, answer, log = ask({"model": str(tiny_tflite)}, tmp_path, "-S", "-X", "importtime", env=environment)

    assert code == 0, answer
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in log.splitlines() if "import time:" in line}
    assert "numpy" in imported
    assert "edgepack" not in imported


def test_without_numpy_it_says_what_to_install(tiny_tflite: Path, tmp_path: Path) -> None:
    code, answer, _ = ask({"model": str(tiny_tflite)}, tmp_path, "-S", env={"PATH": os.environ["PATH"]})

    assert (code, answer["kind"]) == (EXIT_CODES["python"], "python")
    assert "install numpy" in answer["message"]


def test_without_a_runtime_it_says_what_to_install(tiny_tflite: Path, tmp_path: Path) -> None:
    code, answer, _ = ask({"model": str(tiny_tflite)}, tmp_path, "-S", env=bare_python(tmp_path, "numpy"))

    assert code == EXIT_CODES["runtime"]
    assert answer["kind"] == "runtime"
    assert "ai-edge-litert" in answer["message"]


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_it_is_python_3_9_and_imports_the_standard_library_numpy_and_a_runtime_only(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))

    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}

    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | {"numpy"}


def test_without_the_delegate_no_operator_is_taken(tiny_tflite: Path, tmp_path: Path) -> None:
    told = {}
    for delegate in (None, "none"):
        told[delegate] = ask({"model": str(tiny_tflite), "options": {"delegate": delegate}}, tmp_path)[1]["execution"]

    assert (told[None]["delegate"], told["none"]["delegate"]) == ("XNNPACK", None)
    assert told["none"]["delegated_nodes"] == 0
    assert told[None]["delegated_nodes"] == told[None]["nodes"] == told["none"]["nodes"] > 1
