"""With 16-bit activations the LiteRT file computes what the network computes, far below a step of eight bits, without extra operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepack.core.errors import EnvironmentProblem, UnsupportedError
from edgepack.core.types import Array, Silent
from edgepack.exporters.litert import LiteRTExporter
from edgepack.exporters.litert_graph import read_graph
from edgepack.exporters.litert_wide import bias_dtype
from edgepack.exporters.protocol import Exported, ExportOptions
from edgepack.network.model import output_steps, predict
from edgepack.runtimes.litert import LiteRT
from edgepack.runtimes.protocol import Session
from edgepack.runtimes.tflite_runtime import TfliteRuntime
from edgepack.targets import load_target
from exporters.cases import Case, float_case, quantized
from exporters.zoo import ZOO

NO_KERNEL = "hard swish and squeeze-excite"
NORMAL = ("perceptron with tanh", "two outputs")
# In steps of eight bits. Measured: 0.022 and 0.19 with a softmax, whose kernel looks up 513 values; all others at most 0.005 and 0.02.
MEAN_STEPS_MAX, MAX_STEPS_MAX = 0.05, 0.3
INT32, INT64 = 2, 4


@pytest.fixture(scope="module")
def zoo_export(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Case, Exported]]:
    """A network of the zoo, trained and exported once for all tests."""
    done: dict[str, tuple[Case, Exported]] = {}

    def get(name: str) -> tuple[Case, Exported]:
        if name not in done:
            case = quantized(name, activations_bits=16)
            exporter = LiteRTExporter(options=ExportOptions(io_dtype="float32"))
            probe, folder = case.samples.take(slice(0, 1)), tmp_path_factory.mktemp("zoo")
            done[name] = case, exporter.export(case.model, probe, folder, progress=Silent())
        return done[name]

    return get


each_network = pytest.mark.parametrize(
    "name",
    [name if name in NORMAL else pytest.param(name, marks=pytest.mark.slow) for name in ZOO if name != NO_KERNEL],
)


def assert_near(session: Session, case: Case) -> None:
    theirs, ours = session.run_float(dict(case.samples.inputs)), predict(case.model, case.samples)
    step_of = output_steps(case.model)
    for name, values in ours.items():
        steps = np.abs(theirs[name] - values) / step_of[name]
        assert steps.mean() <= MEAN_STEPS_MAX, (name, steps.mean())
        assert steps.max() <= MAX_STEPS_MAX, (name, steps.max())


@each_network
def test_the_file_computes_what_was_trained(name: str, zoo_export: Callable[[str], tuple[Case, Exported]]) -> None:
    case, made = zoo_export(name)

    session = LiteRT().open(made.path)

    assert_near(session, case)
    assert {item.dtype for item in (*session.inputs, *session.outputs)} == {"float32"}
    kinds = sorted(operator.name for operator in session.operators())
    border = ["QUANTIZE"] * len(session.inputs) + ["DEQUANTIZE"] * len(session.outputs)
    assert kinds == sorted([*(one.name for one in LiteRT().open(made.float_path).operators()), *border])


@each_network
def test_the_same_file_runs_on_the_old_runtime(name: str, zoo_export: Callable[[str], tuple[Case, Exported]]) -> None:
    try:
        TfliteRuntime().interpreter()
    except EnvironmentProblem as exc:
        pytest.skip(str(exc))
    case, made = zoo_export(name)

    assert_near(TfliteRuntime().open(made.path), case)


def test_every_activation_is_symmetric_int16_and_tanh_has_its_kernels_grid(
    zoo_export: Callable[[str], tuple[Case, Exported]],
) -> None:
    _, made = zoo_export("perceptron with tanh")

    assert made.grid is not None
    assert {(params.dtype, params.zero_point) for params in made.grid.activations.values()} == {("int16", (0,))}
    assert made.grid.activations["/tanh/0"].scale == pytest.approx((1 / 32768,), rel=1e-6)
    assert {params.dtype for params in made.grid.weights.values()} == {"int8"}


def test_a_bias_is_int32_in_tensor_and_operator_where_no_sum_can_overflow(
    zoo_export: Callable[[str], tuple[Case, Exported]],
) -> None:
    """LiteRT 2.3 reads int32 as int64, and computes nonsense, where only the tensor says it."""
    _, made = zoo_export("perceptron with tanh")
    model, graph = read_graph(made.path.read_bytes())

    layers = [
        (raw, operator)
        for raw, operator in zip(model.subgraphs[0].operators, graph.operators, strict=True)
        if operator.kind == "FULLY_CONNECTED"
    ]

    assert layers
    for raw, operator in layers:
        assert model.subgraphs[0].tensors[operator.inputs[2]].type == INT32
        assert raw.builtinOptions.quantizedBiasType == INT32


@pytest.mark.parametrize(
    ("kind", "weights", "dtype"),
    [
        ("CONV_2D", np.full((2, 1, 1, 500), 127), "int32"),
        ("CONV_2D", np.full((2, 1, 1, 520), 127), "int64"),
        ("FULLY_CONNECTED", np.full((2, 520), 60), "int32"),
        ("DEPTHWISE_CONV_2D", np.ones((1, 3, 3, 2)), "int64"),
        ("TRANSPOSE_CONV", np.ones((2, 3, 3, 1)), "int64"),
    ],
)
def test_a_bias_has_as_many_bits_as_the_largest_sum_needs(kind: str, weights: Array, dtype: str) -> None:
    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0

    assert bias_dtype(kind, weights, np.array([5.0, -7.0]), axis) == dtype
    assert bias_dtype(kind, weights, np.array([5.0, -(2.0**31)]), axis) == "int64"


def test_an_operator_without_such_a_kernel_is_refused_before_training(tmp_path: Path) -> None:
    model, samples = float_case(NO_KERNEL)
    constraints = load_target("arm64").numbers(activations_bits=16)

    with pytest.raises(UnsupportedError, match=r"HARD_SWISH at '.*' has no int16 form.*activations_bits = 8"):
        LiteRTExporter(options=ExportOptions(io_dtype="float32")).check(
            model, samples.take(slice(0, 1)), tmp_path, constraints=constraints, progress=Silent()
        )
