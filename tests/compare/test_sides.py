from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from made_benches import bench_of
from made_runs import DEVICE, run

from edgepack.bench import BenchModel, BenchProtocol, bench
from edgepack.compare import compare_sides, read_side
from edgepack.core.digest import sha256_file
from edgepack.core.errors import DataError, UsageError
from edgepack.core.types import Silent
from edgepack.devices.local import LocalTransport
from edgepack.records import RunSummary
from edgepack.store.results import ResultStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    opened = open_store(str(tmp_path / "results.sqlite"))
    opened.add(
        bench_of(
            {"float": [1.0, 1.1], "bundle": [0.5, 0.6]},
            bench="11aa",
            correct={"float": [True, True], "bundle": [True, False]},
        )
    )
    opened.add(bench_of({"one": [0.7]}, bench="22bb"))
    opened.add([run(bench="33cc", status="partial")])
    return opened


@pytest.mark.parametrize(
    ("reference", "bench_id", "label", "count"),
    [
        ("11", "11aa", "bundle", 2),
        ("float@11aa", "11aa", "float", 2),
        ("latest~1", "22bb", "one", 1),
        ("bundle@latest~2", "11aa", "bundle", 2),
    ],
)
def test_a_reference_names_a_bench_and_a_model_of_it(
    store: ResultStore, reference: str, bench_id: str, label: str, count: int
) -> None:
    side = read_side(reference, store=store)

    assert {(one.bench, one.subject.label) for one in side.runs} == {(bench_id, label)}
    assert (side.name, len(side.runs)) == (reference, count)


def test_the_answers_come_with_the_runs(store: ResultStore) -> None:
    side = read_side("float@11", store=store)

    ((device, answers),) = side.answers
    assert (device, answers.correct) == (DEVICE, (True, True))


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("bundel@11", "holds no model 'bundel' (did you mean 'bundle'?)"),
        ("33", "none of its 1 runs is complete: the connection was lost"),
        ("44", "no bench of that id"),
        ("nowhere/bench.json", "no such file"),
    ],
)
def test_a_reference_that_leads_to_no_runs_says_why(store: ResultStore, reference: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_side(reference, store=store)

    assert words in str(caught.value)


def test_of_several_models_without_a_bundle_one_must_be_named(store: ResultStore) -> None:
    store.add(bench_of({"a": [1.0], "b": [1.0]}, bench="55dd"))

    with pytest.raises(UsageError, match="holds 2 models: name one: a@55, b@55"):
        read_side("55", store=store)


def test_a_saved_bench_is_a_side_and_its_models_pair(tiny_tflite: Path, tmp_path: Path) -> None:
    models = [
        BenchModel(label=label, path=tiny_tflite, sha256=sha256_file(tiny_tflite), size_bytes=1000)
        for label in ("float", "bundle")
    ]
    protocol = BenchProtocol(warmup_min_s=0, duration_min_s=0, iterations_min=20, repetitions=5)
    with LocalTransport() as device:
        saved = bench(models, device=device, protocol=protocol, progress=Silent()).save(tmp_path)

    found = compare_sides(read_side(f"float@{saved}"), read_side(str(tmp_path)), metrics=["latency_p50_ms"])

    (effect,) = found.effects
    assert (effect.method, effect.count) == ("paired", 5)


def test_whole_records_in_a_file_are_read(tmp_path: Path) -> None:
    records = bench_of({"bundle": [1.0, 1.1]}, correct={"bundle": [True]})
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"records": [asdict(one) for one in records]}))

    side = read_side(str(path))

    assert side.runs == tuple(RunSummary.of(one) for one in records)
    assert side.answers[0][1].correct == (True,)


@pytest.mark.parametrize("content", ["{", "[]", '{"runs": []}', '{"records": [{}]}'])
def test_a_file_that_is_no_bench_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content)

    with pytest.raises(DataError, match=r"bench\.json: "):
        read_side(str(path))
