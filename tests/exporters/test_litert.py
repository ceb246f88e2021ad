"""The LiteRT file computes what the fake-quantized network computes, for networks of many shapes, without extra operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.core.errors import EnvironmentProblem, UnsupportedError
from edgepack.core.types import Samples, Silent
from edgepack.exporters.litert import LiteRTExporter
from edgepack.exporters.protocol import Exported, ExportOptions
from edgepack.network.model import predict
from edgepack.runtimes.litert import LiteRT
from edgepack.runtimes.tflite_runtime import TfliteRuntime
from exporters.cases import Case, quantized
from exporters.zoo import ZOO

MEAN_STEPS_MAX, MAX_STEPS_MAX = 0.75, 3.0
NORMAL = (
    "hard swish and squeeze-excite",
    "u-net",
    "perceptron with tanh",
    "shared weights",
    "two outputs",
    "dense connections",
)


def exported(case: Case, folder: Path, **options: Any) -> Exported:
    exporter = LiteRTExporter(options=ExportOptions(**options))
    return exporter.export(case.model, case.samples.take(slice(0, 1)), folder, progress=Silent())


@pytest.fixture(scope="module")
def zoo_export(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Case, Exported]]:
    """A network of the zoo, trained and exported once for all tests."""
    done: dict[str, tuple[Case, Exported]] = {}

    def get(name: str) -> tuple[Case, Exported]:
        if name not in done:
            folder = tmp_path_factory.mktemp("zoo")
            case = quantized(name)
            done[name] = case, exported(case, folder)
        return done[name]

    return get


each_network = pytest.mark.parametrize(
    "name", [name if name in NORMAL else pytest.param(name, marks=pytest.mark.slow) for name in ZOO]
)


@each_network
def test_the_file_computes_what_was_trained(name: str, zoo_export: Callable[[str], tuple[Case, Exported]]) -> None:
    case, made = zoo_export(name)

    session = LiteRT().open(made.path)
    theirs, ours = session.run_float(dict(case.samples.inputs)), predict(case.model, case.samples)
    assert set(theirs) == set(ours)
    for item in session.outputs:
        assert item.dtype == "int8" and item.quantization is not None
        steps = np.abs(theirs[item.name] - ours[item.name]) / item.quantization.step
        assert steps.mean() <= MEAN_STEPS_MAX, (item.name, steps.mean())
        assert steps.max() <= MAX_STEPS_MAX, (item.name, steps.max())
    kinds = [operator.name for operator in session.operators()]
    for operator in LiteRT().open(made.float_path).operators():
        if operator.name in kinds:
            kinds.remove(operator.name)
    assert kinds == []


@each_network
def test_the_same_file_runs_on_the_old_runtime(name: str, zoo_export: Callable[[str], tuple[Case, Exported]]) -> None:
    """Its kernels round here and there to the neighbouring step; largest mean of the zoo 0.25 steps (in one dimension), largest difference 2."""
    try:
        TfliteRuntime().interpreter()
    except EnvironmentProblem as exc:
        pytest.skip(str(exc))
    case, made = zoo_export(name)

    session = TfliteRuntime().open(made.path)
    theirs, ours = session.run_float(dict(case.samples.inputs)), predict(case.model, case.samples)

    assert session.operators() == LiteRT().open(made.path).operators()
    for item in session.outputs:
        assert item.quantization is not None
        steps = np.abs(theirs[item.name] - ours[item.name]) / item.quantization.step
        assert steps.mean() <= MEAN_STEPS_MAX, (item.name, steps.mean())
        assert steps.max() <= MAX_STEPS_MAX, (item.name, steps.max())


def test_probabilities_keep_the_kernels_own_grid(tmp_path: Path) -> None:
    case = quantized("concatenation and poolings")

    (output,) = LiteRT().open(exported(case, tmp_path).path).outputs

    assert output.quantization is not None
    assert output.quantization.scale == pytest.approx((1 / 256,), rel=1e-6)
    assert output.quantization.zero_point == (-128,)


def test_a_probe_of_zeros_still_tells_tensors_apart_or_is_refused(tmp_path: Path) -> None:
    """Tensors are paired by their values; a sample without any must not pair them wrongly in silence."""
    case = quantized("perceptron with tanh")
    probe = Samples(inputs={"input": np.zeros((1, 32), np.float32)})

    try:
        made = LiteRTExporter(options=ExportOptions()).export(case.model, probe, tmp_path, progress=Silent())
    except UnsupportedError:
        return

    session = LiteRT().open(made.path)
    ours = predict(case.model, case.samples)["output"]
    step = session.outputs[0].quantization.step  # type: ignore[union-attr]
    assert (np.abs(session.run_float(dict(case.samples.inputs))["output"] - ours) / step).max() <= MAX_STEPS_MAX
