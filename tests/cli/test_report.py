"""`edgepack report`: which runs, where to, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import Result

from edgepack.records import RunRecord
from edgepack.store.results import open_store
from tests.report.synthetic import BEGIN, builds, record

OLD = BEGIN - timedelta(days=400)
Run = Callable[..., Result]
BENCH = "b1f0c2d4-0000-4000-8000-000000000106"  # the last of the builds


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPACK_STORE", f"sqlite:///{tmp_path / 'results.db'}")
    with open_store() as opened:
        opened.add([*builds(), record("bundle", "shelf-pi4", bench="an-older-one", started=OLD)])


def bench_file(path: Path, records: list[RunRecord], schema: str = "edgepack.bench/2") -> Path:
    path.write_text(json.dumps({"schema": schema, "records": [asdict(run) for run in records]}), encoding="utf-8")
    return path


def test_without_a_reference_it_is_the_latest_bench(run: Run, tmp_path: Path) -> None:
    done = run("report")

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "report.html" in done.stdout
    assert "10 runs in 2 rows" in done.stdout
    assert page.startswith("<!doctype html>")


def test_json_prints_the_figures_and_writes_no_page(run: Run, tmp_path: Path) -> None:
    latest = json.loads(run("report", "--json").stdout)
    named = json.loads(run("report", "an-old", "--json").stdout)

    assert [row["latest_bench"] for row in latest["rows"]] == [BENCH, BENCH]
    assert [row["latest_bench"] for row in named["rows"]] == ["an-older-one"]
    assert not (tmp_path / "report.html").exists()


def test_several_benches_stand_side_by_side(run: Run) -> None:
    rows = json.loads(run("report", BENCH, BENCH[:-1] + "5", "--json").stdout)["rows"]

    assert len(rows) == 4
    assert {row["bench"] for row in rows} == {BENCH, BENCH[:-1] + "5"}


def test_filters_take_the_runs_of_all_benches(run: Run) -> None:
    by_device = json.loads(run("report", "--device", "shelf-pi4", "--json").stdout)
    by_day = json.loads(run("report", "--since", "2026-11-13", "--device", "kitchen-pi5", "--json").stdout)

    assert [row["device"]["name"] for row in by_device["rows"]] == ["shelf-pi4"]
    assert {row["subject"]["version"] for row in by_day["rows"]} == {"1.2.1"}


def test_a_file_of_a_bench_gives_the_numbers_of_its_runs(run: Run, tmp_path: Path) -> None:
    records = [record("bundle", "pi5", round_number=number) for number in range(3)]

    done = run("report", str(bench_file(tmp_path / "bench.json", records)), "--json")

    (row,) = json.loads(done.stdout)["rows"]
    middle = sorted(one.metrics["latency_p50_ms"] for one in records)[1]
    assert row["numbers"]["latency_p50_ms"]["value"] == middle


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no runs"),
        ('{"schema": "edgepack.bench/1", "runs": []}', "edgepack bench --save"),
        ('{"schema": "edgepack.bench/2", "records": []}', "holds no run"),
        ('{"schema": "edgepack.bench/2", "records": [{"bench": 3}]}', "records.0"),
    ],
)
def test_a_file_without_runs_is_refused_with_what_to_do(run: Run, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content, encoding="utf-8")

    done = run("report", str(path), code=2)

    assert "bench.json" in done.stderr
    assert words in done.stderr


def test_what_does_not_exist_is_named(run: Run) -> None:
    assert "nowhere.json" in run("report", "nowhere.json", code=2).stderr
    assert "'edgepack results'" in run("report", "ffff", code=2).stderr
    assert "device nowhere" in run("report", "--device", "nowhere", code=2).stderr


def test_a_file_and_a_bench_of_the_store_do_not_mix(run: Run, tmp_path: Path) -> None:
    path = bench_file(tmp_path / "bench.json", [record("bundle", "pi5")])

    done = run("report", str(path), "latest", code=2)

    assert "other files alone" in done.stderr
