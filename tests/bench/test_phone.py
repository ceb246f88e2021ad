"""A benchmark on a device without Python: the arm64 machine over adb, with a stand-in for LiteRT's benchmark_model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from arm_device.machine import ArmDevice

from edgepack.bench import BenchModel, BenchProtocol, bench
from edgepack.core.digest import sha256_file
from edgepack.core.errors import EnvironmentProblem
from edgepack.core.types import Silent
from edgepack.devices.adb import AdbTransport
from edgepack.devices.inventory import Device

STAND_IN = Path(__file__).parents[1] / "devices" / "benchmark_model_stand_in.sh"
SHORT = BenchProtocol(repetitions=2, iterations_min=5, warmup_min_iterations=3, warmup_min_s=0.0, duration_min_s=0.0)


def phone(arm: ArmDevice, program: Path | None) -> AdbTransport:
    if shutil.which("adb") is None:
        pytest.skip("adb isn't installed")
    known = Device(name="phone", address="adb://x", python="python9", native_benchmark=program)
    return AdbTransport(arm.adb_address, device=known)


@pytest.fixture
def model(tmp_path: Path) -> BenchModel:
    file = tmp_path / "model.tflite"
    file.write_bytes(b"TFL3" * 100)
    return BenchModel(label="bundle", path=file, sha256=sha256_file(file), size_bytes=400)


@pytest.mark.device
@pytest.mark.slow
def test_a_phone_is_measured_by_the_native_program(arm_device: ArmDevice, model: BenchModel) -> None:
    with phone(arm_device, STAND_IN) as device:
        result = bench([model], device=device, protocol=SHORT, progress=Silent())

    assert [(run.status, len(run.report.samples_ns)) for run in result.records if run.report] == [("complete", 5)] * 2
    assert all(run.report and run.report.environment.python == "none" for run in result.records)


@pytest.mark.device
@pytest.mark.slow
def test_a_phone_without_the_program_is_refused_with_what_to_do(arm_device: ArmDevice, model: BenchModel) -> None:
    with (
        phone(arm_device, None) as device,
        pytest.raises(EnvironmentProblem, match=r"native_benchmark.*docs/devices\.md"),
    ):
        bench([model], device=device, protocol=SHORT, progress=Silent())
