"""LiteRT's benchmark_model on a device without Python: a stand-in that prints its exact lines (benchmark_model_stand_in.sh says where they come from)."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from arm_device.machine import ArmDevice

from edgepack.core.errors import EnvironmentProblem, StageError, UnsupportedError
from edgepack.devices.adb import AdbTransport
from edgepack.devices.agent import AgentSpec, CutOff
from edgepack.devices.inventory import Device
from edgepack.devices.local import LocalTransport
from edgepack.devices.native import ask_native, native_where_no_python, put_native
from edgepack.devices.native_output import read_run, trouble_in
from edgepack.devices.protocol import Transport
from edgepack.records import AgentReport, metrics_of

STAND_IN = Path(__file__).with_name("benchmark_model_stand_in.sh")
# As a program before 2024 printed it on a Raspberry Pi 4 (docs of Larq Compute Engine): no percentiles, no prefix.
OLD = """\
STARTING!
Num threads: [1]
Loaded model quicknet.tflite
The input model file size (MB): 3.34914
Initialized session in 3.501ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=12 first=156677 curr=33205 min=32578 max=156677 avg=43268.1 std=34197

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=33228 curr=33130 min=32687 max=33239 avg=33071.8 std=129

Inference timings in us: Init: 3501, First inference: 156677, Warmup (avg): 43268.1, Inference (avg): 33071.8
"""
# As a newer one writes to Android's log.
NEW = """\
I tflite  : Replacing 539 out of 548 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 19 partitions for subgraph 0.
I tflite  : count=3 first=235158 curr=200386 min=199462 max=235158 avg=211669 std=16613 p5=199462 median=200386 p95=235158
I tflite  : count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533
I tflite  : Inference timings in us: Init: 92318, First inference: 235158, Warmup (avg): 211669, Inference (avg): 145528
I tflite  : Memory footprint delta from the start of the tool (MB): init=54.2852 overall=73.4102
"""


def test_an_old_program_tells_no_percentiles_and_no_memory() -> None:
    run = read_run(OLD)

    assert run is not None
    assert (run.init_us, run.first_us, run.warmup.count) == (3501, 156677, 12)
    assert (run.measured.count, run.measured.mean_us, run.measured.median_us) == (50, 33071.8, None)
    assert (run.overall_grown_bytes, run.delegate) == (None, None)


def test_a_new_program_tells_percentiles_memory_and_what_the_delegate_took() -> None:
    run = read_run(NEW)

    assert run is not None
    assert (run.measured.median_us, run.measured.p95_us) == (141253, 187533)
    assert run.overall_grown_bytes == round(73.4102 * 2**20)
    assert (run.delegate, run.delegated_nodes, run.nodes) == ("TfLiteXNNPackDelegate", 539, 548)


@pytest.mark.parametrize(
    "stats",
    ["count=1 curr=40000", "count=2 curr=40000(all same)", "count=1 curr=40000 p5=40000 median=40000 p95=40000"],
)
def test_equal_inferences_are_told_as_one(stats: str) -> None:
    run = read_run(OLD.replace("count=50 first=33228 curr=33130 min=32687 max=33239 avg=33071.8 std=129", stats))

    assert run is not None
    assert (run.measured.first_us, run.measured.mean_us) == (40000, 40000)


def test_an_output_that_was_cut_off_is_no_run() -> None:
    assert read_run(OLD[: OLD.index("Inference timings")]) is None
    assert read_run("") is None


def test_what_went_wrong_is_found_among_the_lines() -> None:
    output = "INFO: STARTING!\nERROR: Didn't find op for builtin opcode 'ADD' version '9'.\nERROR: Benchmarking failed.\nINFO: end\n"

    assert (
        trouble_in(output) == "ERROR: Didn't find op for builtin opcode 'ADD' version '9'.; ERROR: Benchmarking failed."
    )
    assert trouble_in("") == "it said nothing"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.tflite").write_bytes(b"TFL3" * 100)
    return tmp_path / "model.tflite"


def measured(device: Transport, model: Path, samples: int = 5) -> AgentReport:
    native = put_native(device, STAND_IN)
    spec = AgentSpec(model=device.put(model), threads=2, iterations_min=samples, warmup_min_iterations=12)
    return ask_native(device, native=native, spec=spec, label="tiny", timeout_s=120)


def check(report: AgentReport, model: Path) -> None:
    assert len(report.samples_ns) == 5
    assert all(10_900_000 <= sample < 11_000_000 and sample % 1000 == 0 for sample in report.samples_ns)
    assert (report.load_ms, report.first_ms, report.threads) == (12.345, 20.147, 2)
    assert report.model_sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (report.execution.delegated_nodes, report.execution.nodes) == (63, 65)
    assert "its own statistics of one process: 5 inferences, mean 10965.2 µs, median 10951 µs" in report.execution.notes
    program = hashlib.sha256(STAND_IN.read_bytes()).hexdigest()[:12]
    assert report.environment.runtime_version == f"benchmark_model {program}"
    assert report.environment.python == "none"
    memory = report.memory
    assert memory.peak_bytes > 100_000
    assert memory.after_first_bytes == memory.before_load_bytes + round(9.25 * 2**20)
    assert memory.peak_not_reset
    assert report.before.missing["throttled"]
    assert report.before.wall_s and report.after.wall_s
    assert report.after.at_s == report.after.wall_s - report.before.wall_s


def test_a_run_is_a_report_like_any_other(model: Path) -> None:
    with LocalTransport() as device:
        report = measured(device, model)

    check(report, model)
    figures = metrics_of(report, size_bytes=400)
    assert 10.9 <= figures["latency_p50_ms" if "latency_p50_ms" in figures else "emulated_p50_ms"] < 11.0


@pytest.mark.skipif(
    not shutil.which("mksh") or not shutil.which("toybox"),
    reason="mksh or toybox isn't installed (Debian: mksh toybox)",
)
def test_a_run_in_androids_shell_with_androids_tools(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toybox, mksh = str(shutil.which("toybox")), str(shutil.which("mksh"))
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split():
        (folder / name).symlink_to(toybox)
    (folder / "sh").unlink(missing_ok=True)
    (folder / "sh").symlink_to(mksh)
    monkeypatch.setenv("PATH", str(folder))

    with LocalTransport() as device:
        check(measured(device, model), model)


def test_a_model_that_it_cant_open_is_told_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "empty.tflite").write_bytes(b"")

    with (
        LocalTransport() as device,
        pytest.raises(StageError, match=r"exit code 1: ERROR: Could not open .*Benchmarking failed"),
    ):
        measured(device, tmp_path / "empty.tflite")


def test_a_run_that_takes_too_long_leaves_its_samples(model: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow.sh"
    slow.write_text(STAND_IN.read_text().replace("sample=$((", "sleep 1; sample=$(("))
    with LocalTransport() as device:
        native = put_native(device, slow)
        spec = AgentSpec(model=device.put(model), iterations_min=50)
        with pytest.raises(CutOff, match="took longer than 4 s") as caught:
            ask_native(device, native=native, spec=spec, label="tiny", timeout_s=4)

    assert 1 <= len(caught.value.partial.samples_ns) <= 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"runtime": "onnxruntime"}, "LiteRT models only"),
        ({"inputs": {"x": "a.npy"}}, "random inputs"),
        ({"profile": True}, "random inputs"),
    ],
)
def test_what_it_cant_do_is_refused(change: dict[str, object], said: str) -> None:
    with LocalTransport() as device:
        native = put_native(device, STAND_IN)
        spec = replace(AgentSpec(model="x"), **change)  # type: ignore[arg-type]
        with pytest.raises(UnsupportedError, match=said):
            ask_native(device, native=native, spec=spec, label="tiny", timeout_s=5)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with LocalTransport() as device, pytest.raises(EnvironmentProblem, match=r"none: .*correct `native_benchmark`"):
        put_native(device, tmp_path / "none")


@pytest.mark.device
@pytest.mark.slow
def test_it_is_taken_only_where_there_is_no_python(arm_device: ArmDevice) -> None:
    if shutil.which("adb") is None:
        pytest.skip("adb isn't installed")
    found = []
    for python, program in (("python9", STAND_IN), ("python3", STAND_IN), ("python9", None)):
        known = Device(name="phone", address="adb://x", python=python, native_benchmark=program)
        with AdbTransport(arm_device.adb_address, device=known) as device:
            found.append(native_where_no_python(device))

    assert found[0] is not None
    assert found[1:] == [None, None]


@pytest.mark.device
@pytest.mark.slow
def test_a_run_over_adb(arm_device: ArmDevice, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("adb") is None:
        pytest.skip("adb isn't installed")
    with AdbTransport(arm_device.adb_address) as device:
        report = measured(device, model)

    check(report, model)
    assert report.environment.emulated == "QEMU"
    assert report.environment.machine == "aarch64"
    assert "emulated_p50_ms" in metrics_of(report, size_bytes=400)
