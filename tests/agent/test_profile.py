from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.agent.bench.runtimes.alignment import aligned
from edgepack.agent.bench.runtimes.onnx import node_times
from edgepack.core.errors import EnvironmentProblem, UnsupportedError
from edgepack.devices.agent import AgentSpec, agent_file, ask, put_spec
from edgepack.devices.local import LocalTransport
from edgepack.records import AgentReport
from edgepack.runtimes.tflite_runtime import TfliteRuntime


def profiled(model: Path, runtime: str, *companions: Path, **options: object) -> AgentReport:
    with LocalTransport() as device:
        spec = AgentSpec(
            model=device.put(model, companions=companions),
            runtime=runtime,
            options=options,
            iterations_min=30,
            duration_min_s=0,
            warmup_max_s=0,
            profile=True,
        )
        return ask(device, agent=device.put(agent_file()), spec=put_spec(device, spec), label="m", timeout_s=60)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matrix product of some size, then a softmax."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((512, 512), np.float32), "weight")
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["wide"], name="dense"),
        helper.make_node("Softmax", ["wide"], ["y"], name="soft"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 512]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], [weight])
    path = tmp_path_factory.mktemp("onnx") / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def test_litert_times_every_kernel_under_the_names_of_the_file(tiny_tflite: Path) -> None:
    report = profiled(tiny_tflite, "litert")

    kinds = [layer.kind for layer in report.profile]
    assert {"CONV_2D", "FULLY_CONNECTED"} <= set(kinds)
    assert all(layer.calls == len(report.samples_ns) for layer in report.profile)
    assert sum(layer.mean_ms for layer in report.profile) <= 1.1 * sum(report.samples_ns) / len(report.samples_ns) / 1e6
    assert report.execution.delegate == "XNNPACK"
    assert report.execution.delegated_nodes == report.execution.nodes


@pytest.mark.parametrize(("runtime", "options"), [("litert", {"delegate": "none"}), ("tflite_runtime", {})])
def test_what_has_no_profiler_is_refused_in_clear_words(
    runtime: str, options: dict[str, object], tiny_tflite: Path
) -> None:
    if runtime == "tflite_runtime":
        try:
            TfliteRuntime().version()
        except EnvironmentProblem as exc:
            pytest.skip(str(exc))

    with pytest.raises(UnsupportedError, match=r"a profile of a \.tflite file needs ai-edge-litert 2"):
        profiled(tiny_tflite, runtime, **options)


def test_onnx_runtime_times_every_node_of_the_measured_inferences(onnx_file: Path) -> None:
    report = profiled(onnx_file, "onnxruntime")

    assert [(layer.name, layer.kind, layer.calls) for layer in report.profile] == [
        ("dense", "MatMul", 30),
        ("soft", "Softmax", 30),
    ]
    assert 0 < sum(layer.mean_ms for layer in report.profile) <= 1.1 * sum(report.samples_ns) / 30 / 1e6
    assert not list(onnx_file.parent.glob("*.profile*")), "what was written down is removed"


def test_openvino_times_what_it_executed(onnx_file: Path) -> None:
    import sys

    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    path = onnx_file.with_suffix(".xml")
    openvino.save_model(openvino.Core().read_model(onnx_file), path, compress_to_fp16=False)

    report = profiled(path, "openvino", path.with_suffix(".bin"))

    assert {"FullyConnected", "Softmax"} & {layer.kind for layer in report.profile}
    assert all(layer.calls == 30 for layer in report.profile)


def test_inferences_before_the_measured_ones_are_left_out() -> None:
    def node(at: int, duration: int) -> dict[str, object]:
        return {"cat": "Node", "name": "a_kernel_time", "ts": at, "dur": duration, "args": {"op_name": "Add"}}

    def run(at: int) -> dict[str, object]:
        return {"cat": "Session", "name": "model_run", "ts": at, "dur": 9}

    events = [run(0), node(1, 5000), run(10), node(11, 1000), run(20), node(21, 3000)]

    assert node_times(events, 2) == [{"name": "a", "kind": "Add", "mean_ms": 2.0, "calls": 2}]


def test_kernels_find_their_operators_though_some_are_fused_and_some_are_added() -> None:
    operators = [
        ("RESHAPE", "r"),
        ("PAD", "p"),
        ("CONV_2D", "c1"),
        ("ADD", "a"),
        ("STRIDED_SLICE", "s"),
        ("CONV_2D", "c2"),
    ]
    kernels = [
        (None, "Delegate/Static Reshape (NC)"),
        (None, "Delegate/Convolution (NHWC, QC8) IGEMM"),
        (None, "Delegate/Add (ND)"),
        (None, "Delegate/Clamp (NC)"),
        (4, "STRIDED_SLICE"),
        (None, "Delegate/Fully Connected (NC, QS8, QC8W) GEMM"),
    ]

    assert aligned(operators, kernels) == [
        ("RESHAPE", "r"),
        ("CONV_2D", "c1"),
        ("ADD", "a"),
        ("Clamp (NC)", "a"),
        ("STRIDED_SLICE", "s"),
        ("CONV_2D", "c2"),
    ]
