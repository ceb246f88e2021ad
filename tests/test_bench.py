from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.bench import BenchModel, BenchProtocol, BenchResult, Run, bench, run_order, summarise
from edgepack.core.digest import sha256_file
from edgepack.core.errors import StageError, UsageError
from edgepack.core.types import Silent
from edgepack.devices.local import LocalTransport

PROTOCOL = BenchProtocol(warmup_min_s=0, duration_min_s=0, iterations_min=20, repetitions=3)


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
    one = result.runs[0].report
    before = replace(one.before, load_average=load, governor=None)
    runs = tuple(
        Run(
            label="ab"[index],
            round=round_number,
            report=replace(one, samples_ns=(int(median * 1e6),) * samples, before=before),
        )
        for index, rounds in enumerate(medians_ms)
        for round_number, median in enumerate(rounds)
    )
    models = [
        BenchModel(label="ab"[index], path=Path("x"), sha256=one.model_sha256, size_bytes=1)
        for index in range(len(medians_ms))
    ]
    return summarise(models, runs, device=result.device, protocol=result.protocol)


def test_the_order_turns_round_in_every_round() -> None:
    assert run_order(2, 4) == ((0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1), (3, 1), (3, 0))
    assert [model for _, model in run_order(3, 2)] == [0, 1, 2, 2, 1, 0]


def test_models_run_interleaved_in_fresh_processes(result: BenchResult) -> None:
    assert [run.label for run in result.runs] == ["a", "b", "b", "a", "a", "b"]
    assert [run.round for run in result.runs] == [0, 0, 1, 1, 2, 2]
    assert all(len(run.report.samples_ns) == 20 for run in result.runs)
    assert all(len(run.report.warmup_ns) >= 10 for run in result.runs)


def test_a_measurement_sums_up_its_runs(result: BenchResult, model: BenchModel) -> None:
    one = result.measurement("a")

    assert one.pooled.n == 3 * 20
    assert min(one.run_medians_ms) <= one.p50_ms <= max(one.run_medians_ms)
    assert one.peak_memory_bytes >= one.peak_memory_median_bytes > one.model_memory_bytes
    assert (one.sha256, one.size_bytes) == (model.sha256, model.size_bytes)
    assert [(pair.label, pair.baseline, pair.ratio.pairs) for pair in result.comparisons] == [("b", "a", 3)]


def test_the_saved_file_holds_every_raw_sample(result: BenchResult, tmp_path: Path) -> None:
    path = result.save(tmp_path / "new")

    read = json.loads(path.read_text())
    assert read == result.as_dict()
    assert read["schema"] == "edgepack.bench/1"
    assert [tuple(run["report"]["samples_ns"]) for run in read["runs"]] == [r.report.samples_ns for r in result.runs]
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
    one = result.runs[0].report
    report = replace(
        one,
        stopped_early=True,
        threads=one.environment.usable_cores + 1,
        before=replace(one.before, governor="powersave"),
        memory=replace(one.memory, peak_not_reset="/proc/self/clear_refs: Permission denied"),
    )
    model = BenchModel(label="a", path=Path("x"), sha256=one.model_sha256, size_bytes=1)

    doubtful = summarise(
        [model], (Run(label="a", round=0, report=report),), device=result.device, protocol=result.protocol
    )

    said = "\n".join(doubtful.warnings)
    for words in ("1 of 1 runs reached the time limit", "threads shared", "'powersave'", "Permission denied"):
        assert words in said
