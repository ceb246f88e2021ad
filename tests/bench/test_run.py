from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgepack.bench import (
    BenchModel,
    BenchProtocol,
    BenchResult,
    BenchSamples,
    bench,
    run_order,
    summarise,
    void_reason,
)
from edgepack.core.digest import sha256_file
from edgepack.core.errors import EnvironmentProblem, StageError, UsageError
from edgepack.core.types import Silent
from edgepack.devices.local import LocalTransport
from edgepack.devices.protocol import CompletedRun, DeviceLost
from edgepack.records import AgentReport, DeviceState, RunRecord

PROTOCOL = BenchProtocol(warmup_min_s=0, warmup_max_s=0, duration_min_s=0, iterations_min=20, repetitions=3)


@pytest.fixture(scope="module")
def model(tiny_tflite: Path) -> BenchModel:
    return BenchModel(
        label="a", path=tiny_tflite, sha256=sha256_file(tiny_tflite), size_bytes=tiny_tflite.stat().st_size
    )


@pytest.fixture(scope="module")
def result(model: BenchModel) -> BenchResult:
    with LocalTransport() as device:
        return bench([model, replace(model, label="b")], device=device, protocol=PROTOCOL, progress=Silent())


def with_medians(
    result: BenchResult, medians_ms: Sequence[Sequence[float]], *, samples: int = 100, load: float = 0.0
) -> BenchResult:
    """The result of runs like the measured ones, but with these medians for models a, b, … and this machine load."""
    one = result.reports("a")[0]
    before = replace(one.before, load_average=load, governor=None)
    runs = [
        replace(
            result.records[0],
            subject=replace(result.records[0].subject, label="ab"[index]),
            round=round_number,
            report=replace(one, samples_ns=(int(median * 1e6),) * samples, before=before, warmup_stable=True),
        )
        for index, rounds in enumerate(medians_ms)
        for round_number, median in enumerate(rounds)
    ]
    return summarise("x", models_of(one, len(medians_ms)), runs, device=result.device, protocol=result.protocol)


def models_of(report: AgentReport, count: int) -> list[BenchModel]:
    return [
        BenchModel(label="ab"[index], path=Path("x"), sha256=report.model_sha256, size_bytes=1)
        for index in range(count)
    ]


def test_the_order_turns_round_in_every_round() -> None:
    assert run_order(2, 4) == ((0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1), (3, 1), (3, 0))
    assert [model for _, model in run_order(3, 2)] == [0, 1, 2, 2, 1, 0]


def test_models_run_interleaved_in_fresh_processes(result: BenchResult) -> None:
    assert [run.subject.label for run in result.records] == ["a", "b", "b", "a", "a", "b"]
    assert [run.round for run in result.records] == [0, 0, 1, 1, 2, 2]
    assert [run.position for run in result.records] == [0, 1, 2, 3, 4, 5]
    assert all(len(report.samples_ns) == 20 for report in result.reports("a"))
    assert all(len(report.warmup_ns) >= 10 for report in result.reports("b"))


def test_a_measurement_sums_up_its_runs(result: BenchResult, model: BenchModel) -> None:
    one = result.measurement("a")

    assert one.pooled is not None and one.p50_ms is not None
    assert one.pooled.n == 3 * 20
    assert min(one.run_medians_ms) <= one.p50_ms <= max(one.run_medians_ms)
    assert one.peak_memory_bytes >= one.peak_memory_median_bytes > one.model_memory_bytes
    assert (one.sha256, one.size_bytes) == (model.sha256, model.size_bytes)
    assert [(pair.label, pair.baseline, pair.ratio.pairs) for pair in result.comparisons] == [("b", "a", 3)]


def test_the_saved_file_holds_every_raw_sample(result: BenchResult, tmp_path: Path) -> None:
    path = result.save(tmp_path / "new")

    read = json.loads(path.read_text())
    assert read == result.as_dict()
    assert read["schema"] == "edgepack.bench/2"
    kept = [tuple(run["report"]["samples_ns"]) for run in read["records"]]
    assert kept == [run.report.samples_ns for run in result.records if run.report]
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]


def test_another_file_than_the_one_asked_for_is_refused(model: BenchModel) -> None:
    with LocalTransport() as device, pytest.raises(StageError, match="not the file that was asked for"):
        bench([replace(model, sha256="0" * 64)], device=device, protocol=PROTOCOL, progress=Silent())


def test_a_failing_model_is_named(model: BenchModel, tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"bad" * 100)
    bad = replace(model, label="broken", path=tmp_path / "bad.tflite")

    with LocalTransport() as device, pytest.raises(StageError, match="bench broken: model:"):
        bench([bad], device=device, protocol=PROTOCOL, progress=Silent())


def test_no_models_and_equal_labels_are_refused(model: BenchModel) -> None:
    for models in ([], [model, model]):
        with LocalTransport() as device, pytest.raises(UsageError, match="different labels"):
            bench(models, device=device, progress=Silent())


@pytest.mark.parametrize("wrong", [{"repetitions": 0}, {"threads": 0}, {"max_s": 0}, {"max_s": 10, "timeout_s": 5}])
def test_impossible_protocols_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        BenchProtocol(**wrong)


def test_the_ratio_is_of_times_and_against_the_first(result: BenchResult) -> None:
    slower = with_medians(result, [(1, 2, 1, 1, 1), (3, 6, 3, 3, 3)]).comparisons[0]

    assert (slower.label, slower.baseline, slower.ratio.value, slower.ratio.ci95) == ("b", "a", 3.0, (3.0, 3.0))


def test_a_good_result_has_no_warnings(result: BenchResult) -> None:
    good = with_medians(result, [(1.0, 1.01, 0.99, 1.0, 1.0)])

    assert [line for line in good.warnings if "peak memory" not in line] == []
    assert good.measurements[0].p50_ci95_ms is not None


@pytest.mark.parametrize(
    ("medians", "samples", "load", "words"),
    [
        ((1.0, 1.2, 1.0), 100, 0.0, "a: the runs differ by 20%"),
        ((1.5, 1.0, 1.0), 100, 0.0, "a: the first run was 50% slower"),
        ((1.0,), 100, 0.0, "a: one run can't tell"),
        ((1.0, 1.0), 10, 0.0, "a: 20 samples are too few"),
        ((0.01, 0.01), 100, 0.0, "a: an inference takes 10 µs"),
        ((1.0, 1.0), 100, 1e6, "the machine was busy"),
    ],
)
def test_a_doubtful_result_says_so(
    result: BenchResult, medians: tuple[float, ...], samples: int, load: float, words: str
) -> None:
    doubtful = with_medians(result, [medians], samples=samples, load=load)

    assert any(words in line for line in doubtful.warnings), doubtful.warnings


def test_what_the_device_did_is_a_doubt_too(result: BenchResult) -> None:
    one = result.reports("a")[0]
    report = replace(
        one,
        stopped_early=True,
        threads=one.environment.usable_cores + 1,
        before=replace(one.before, governor="powersave"),
        memory=replace(one.memory, peak_not_reset="/proc/self/clear_refs: Permission denied"),
    )
    runs = [replace(result.records[0], report=report)]

    doubtful = summarise("x", models_of(one, 1), runs, device=result.device, protocol=result.protocol)

    said = "\n".join(doubtful.warnings)
    for words in ("1 of 1 runs reached the time limit", "threads shared", "'powersave'", "Permission denied"):
        assert words in said


class Unsteady(LocalTransport):
    """Loses the connection while some processes run: `lost` counts down."""

    lost = 0

    def run(
        self, argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CompletedRun:
        completed = super().run(argv, timeout_s=timeout_s, environment=environment)
        if Unsteady.lost > 0:
            Unsteady.lost -= 1
            raise DeviceLost("the connection was lost", stdout=completed.stdout.rpartition('{"event": "end"')[0])
        return completed


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepack.bench.place._WAITS_S", (0.0, 0.0))


@pytest.mark.usefixtures("no_waiting")
def test_a_lost_device_is_opened_anew_and_nothing_is_counted_twice(model: BenchModel) -> None:
    kept: list[RunRecord] = []
    Unsteady.lost = 1

    with Unsteady() as device:
        result = bench(
            [model], device=device, protocol=PROTOCOL, progress=Silent(), keep=kept.append, reopen=LocalTransport
        )

    assert [(run.round, run.attempt, run.status) for run in kept] == [
        (0, 1, "partial"),
        (0, 2, "complete"),
        (1, 1, "complete"),
        (2, 1, "complete"),
    ]
    assert kept[0].key == kept[1].key != kept[2].key
    assert kept[0].report is None and len(kept[0].samples_ns) == 20 and kept[0].reason
    assert result.measurement("a").pooled.n == 60  # type: ignore[union-attr]
    assert "1 runs were cut off and tried again" in result.warnings[0]


@pytest.mark.usefixtures("no_waiting")
def test_a_device_that_stays_away_ends_the_benchmark(model: BenchModel) -> None:
    kept: list[RunRecord] = []
    Unsteady.lost = 100

    with Unsteady() as device, pytest.raises(DeviceLost, match="the connection was lost"):
        bench([model], device=device, protocol=PROTOCOL, progress=Silent(), keep=kept.append, reopen=Unsteady)

    Unsteady.lost = 0
    assert [run.attempt for run in kept] == [1, 2, 3]
    assert {run.status for run in kept} == {"partial"}


STATE = DeviceState(load_average=0.0, governor=None, frequencies_mhz=None, temperature_c=None)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([{}, {"throttled": True}, {}], "throttled"),
        ([{"throttle_count": 3}, {}, {"throttle_count": 5}], "throttled 2 times"),
        ([{"at_s": 0, "wall_s": 100}, {}, {"at_s": 4, "wall_s": 164}], "wall clock jumped by 60.0 s"),
        ([{}, {"load_average": 1e6}, {}], "load average"),
        ([{"throttled": False, "throttle_count": 3, "at_s": 0, "wall_s": 100}, {}, {"at_s": 4, "wall_s": 104}], None),
    ],
)
def test_a_run_is_void_by_its_recorded_state_only(
    result: BenchResult, states: Sequence[dict[str, Any]], words: str | None
) -> None:
    before, during, after = (replace(STATE, **state) for state in states)
    report = replace(result.reports("a")[0], before=before, during=(during,), after=after)

    reason = void_reason(report, replace(PROTOCOL, void_load_per_core=2.0))

    assert (reason is None) if words is None else (words in str(reason))


def test_void_runs_are_kept_and_measured_again_in_their_round(model: BenchModel) -> None:
    kept: list[RunRecord] = []
    strict = replace(PROTOCOL, void_load_per_core=-1.0, repeats_max=1)

    with LocalTransport() as device, pytest.raises(StageError, match=r"2 runs in a row were void \(the load average"):
        bench([model], device=device, protocol=strict, progress=Silent(), keep=kept.append)

    assert [(run.status, run.round, run.position) for run in kept] == [("void", 0, 0), ("void", 0, 1)]
    assert len({run.key for run in kept}) == 2
    assert all(run.report is not None for run in kept)


def test_a_device_without_a_thermometer_can_not_be_waited_for(model: BenchModel) -> None:
    if list(Path("/sys/class/thermal").glob("thermal_zone*/temp")):
        pytest.skip("this machine tells its temperature")
    cool = replace(PROTOCOL, cool_below_c=50.0)

    with LocalTransport() as device, pytest.raises(EnvironmentProblem, match="tells no temperature"):
        bench([model], device=device, protocol=cool, progress=Silent())


class Hot(LocalTransport):
    """Tells 60 °C, then 55, then 49."""

    told: ClassVar[list[float]] = []

    def run(
        self, argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CompletedRun:
        if argv[1] == "-c" and Hot.told:
            return CompletedRun(returncode=0, stdout=f"{Hot.told.pop(0)}\n", stderr="")
        return super().run(argv, timeout_s=timeout_s, environment=environment)


def test_a_process_starts_when_the_device_is_cool(model: BenchModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepack.bench.place._COOLING_LOOK_S", 0.0)
    Hot.told = [60.0, 55.0, 49.0]
    cool = replace(PROTOCOL, cool_below_c=50.0, repetitions=1)

    with Hot() as device:
        bench([model], device=device, protocol=cool, progress=Silent())
    assert Hot.told == []

    Hot.told = [60.0]
    with Hot() as device, pytest.raises(EnvironmentProblem, match=r"still at 60\.0 °C after 0 s, not below 50"):
        bench([model], device=device, protocol=replace(cool, cool_timeout_s=0.0), progress=Silent())


def test_samples_are_judged_once_a_model(model: BenchModel, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model.path), num_threads=1)
    runner = interpreter.get_signature_runner()
    (name,), (output_name,) = runner.get_input_details(), runner.get_output_details()
    interpreter = Interpreter(model_path=str(model.path), num_threads=1)  # details of a runner hold on to its tensors
    interpreter.allocate_tensors()
    (signature,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    images = np.random.default_rng(0).normal(size=(6, *signature["shape"][1:])).astype(np.float32)
    scores = []
    for image in images:
        interpreter.set_tensor(signature["index"], image[None])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(output["index"])[0].copy())
    labels = np.argmax(scores, axis=1)
    np.save(tmp_path / "images.npy", images)
    samples = BenchSamples(
        files={"a": {name: tmp_path / "images.npy"}},
        labels=np.r_[labels[:4], (labels[4:] + 1) % 4],
        output=output_name,
        metric="top1",
        inputs_sha256="5" * 64,
        expected={"a": np.stack(scores)},
        steps={"a": 0.5},
    )

    with LocalTransport() as device:
        result = bench([model], device=device, protocol=PROTOCOL, progress=Silent(), samples=samples)

    accuracy = result.measurement("a").accuracy
    assert accuracy is not None
    assert accuracy.correct == (True,) * 4 + (False,) * 2
    assert (accuracy.value, accuracy.agreement, accuracy.max_steps) == (4 / 6, 1.0, 0.0)
    assert [run.accuracy is not None for run in result.records] == [True, False, False]
    assert result.records[0].conditions.inputs_sha256 == "5" * 64


def test_a_profile_is_a_run_of_its_own_that_counts_in_nothing_else(model: BenchModel) -> None:
    with LocalTransport() as device:
        named = replace(model, tensors={})
        result = bench([named], device=device, protocol=PROTOCOL, progress=Silent(), profile=True)

    assert [run.conditions.suite for run in result.records] == ["quick"] * 3 + ["profile"]
    assert result.measurement("a").pooled.n == 60  # type: ignore[union-attr]
    operators = result.profile("a")
    assert {"CONV_2D", "FULLY_CONNECTED"} <= {one.kind for one in operators}
    assert all(one.mean_ms >= 0 and one.calls >= 20 for one in operators)  # a reshape takes none

    layers = {one.name: f"layer {index}" for index, one in enumerate(operators)}
    tensors = {name: {"operation": layer} for name, layer in layers.items()}
    with LocalTransport() as device:
        named = replace(model, tensors=tensors)
        again = bench(
            [named], device=device, protocol=replace(PROTOCOL, repetitions=1), progress=Silent(), profile=True
        )
    assert [one.source_layer for one in again.profile("a")] == [layers[one.name] for one in again.profile("a")]
