"""Runs become rows: what counts, what stands in one row, and which number each shows."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from edgepack.records import Accuracy, RunRecord, RunSummary
from edgepack.report.details import rows_to_draw
from edgepack.report.rows import Row, rows_of
from edgepack.stats import binomial_ci, mean_ci
from tests.report.synthetic import bench_of_boards, cut_off, fleet, record


def summaries(records: list[RunRecord]) -> list[RunSummary]:
    return [RunSummary.of(one) for one in records]


def runs_of(label: str = "bundle", *, count: int = 5, **more: object) -> list[RunRecord]:
    return [record(label, "pi5", round_number=number, **more) for number in range(count)]  # type: ignore[arg-type]


def only_row(records: list[RunRecord]) -> Row:
    (row,) = rows_of(summaries(records)).rows
    return row


def test_a_row_shows_the_median_of_its_runs_and_students_interval() -> None:
    runs = runs_of()

    number = only_row(runs).numbers["latency_p90_ms"]

    values = [run.metrics["latency_p90_ms"] for run in runs]
    assert number.value == statistics.median(values)
    assert number.ci95 == mean_ci(values)
    assert (number.low, number.high, number.runs) == (min(values), max(values), 5)


def test_peak_memory_is_the_largest_of_the_runs() -> None:
    runs = runs_of()

    assert only_row(runs).numbers["peak_memory_bytes"].value == max(run.metrics["peak_memory_bytes"] for run in runs)


def test_accuracy_has_wilsons_interval_over_its_samples() -> None:
    row = only_row(runs_of())

    right = round(0.99 * 1797)
    assert row.numbers["accuracy"].value == right / 1797
    assert row.numbers["accuracy"].ci95 == binomial_ci(right, 1797)


def test_a_metric_that_is_no_share_of_its_samples_has_no_interval() -> None:
    accuracy = Accuracy(metric="map", value=0.3333, correct=(True, False), inputs_sha256="9a" * 32)

    row = only_row([replace(record("bundle", "pi5"), accuracy=accuracy)])

    assert row.numbers["accuracy"].value == 0.3333
    assert row.numbers["accuracy"].ci95 is None


def test_a_p99_needs_662_samples_in_every_run() -> None:
    short = record("bundle", "pi5", round_number=9, samples=661)

    row = only_row([*runs_of(), short])

    assert row.numbers["latency_p99_ms"].value is None
    assert "662" in str(row.numbers["latency_p99_ms"].why_none)
    assert only_row(runs_of()).numbers["latency_p99_ms"].value is not None


def test_partial_and_void_runs_count_in_no_row_and_are_listed_with_their_reasons() -> None:
    rows = rows_of(summaries(bench_of_boards()))

    without = rows_of(summaries([run for run in bench_of_boards() if run.status == "complete"]))
    assert [row.numbers for row in rows.rows] == [row.numbers for row in without.rows]
    assert rows.excluded_total == 2
    assert {(run.status, run.reason) for run in rows.excluded} == {(run.status, run.reason) for run in cut_off()}
    assert [row.excluded for row in rows.rows if row.device.name == "shelf-pi4"] == [1, 1, 0, 0]


@pytest.mark.parametrize("what", ["threads", "protocol", "inputs", "options", "runtime", "model"])
def test_runs_under_different_conditions_stand_in_different_rows(what: str) -> None:
    one = RunSummary.of(record("bundle", "pi5"))
    subject, conditions, environment = one.subject, one.conditions, one.environment
    assert environment is not None
    other = {
        "threads": replace(one, conditions=replace(conditions, threads=4)),
        "protocol": replace(one, conditions=replace(conditions, protocol={**conditions.protocol, "max_s": 61.0})),
        "inputs": replace(one, conditions=replace(conditions, inputs_sha256=None)),
        "options": replace(one, subject=replace(subject, runtime_options={"delegates": ["xnnpack"]})),
        "runtime": replace(one, environment=replace(environment, runtime_version="2.4.0")),
        "model": replace(one, subject=replace(subject, model_sha256="00" * 32)),
    }[what]

    assert len(rows_of([one, other]).rows) == 2


def test_the_order_of_a_protocols_bounds_makes_no_second_row() -> None:
    one = RunSummary.of(record("bundle", "pi5"))
    turned = dict(reversed(list(one.conditions.protocol.items())))

    rows = rows_of([one, replace(one, conditions=replace(one.conditions, protocol=turned))]).rows

    assert [row.runs for row in rows] == [2]


def test_emulated_time_and_instructions_are_metrics_of_their_own() -> None:
    emulated = only_row(runs_of(emulated="QEMU"))
    counted = only_row(runs_of(emulated="QEMU", clock="guest_instructions"))

    assert (emulated.kind, counted.kind) == ("emulated", "instructions")
    for row in (emulated, counted):
        assert row.numbers["latency_p50_ms"].value is None
        assert row.numbers["load_ms"].value is None
    assert emulated.numbers["emulated_p50_ms"].value == emulated.speed
    assert counted.numbers["guest_instructions"].value == counted.speed


def test_profiled_runs_are_in_no_row() -> None:
    rows = rows_of(summaries([*runs_of(), record("bundle", "pi5", profiled=True, round_number=9)]))

    assert [row.runs for row in rows.rows] == [5]
    assert [row.runs for row in rows.profiled] == [1]


def test_benches_stand_side_by_side_only_when_asked() -> None:
    runs = summaries([*runs_of(), *runs_of(bench="another")])

    assert [row.runs for row in rows_of(runs).rows] == [10]
    assert [(row.bench, row.runs) for row in rows_of(runs, by_bench=True).rows] == [
        ("another", 5),
        (runs[0].bench, 5),
    ]


def test_of_many_devices_those_at_even_ranks_of_speed_are_drawn() -> None:
    rows = rows_of(fleet(devices=100, runs=3)).rows

    drawn = rows_to_draw(rows, limit=10)

    ranks = sorted(sorted(row.speed for row in rows).index(row.speed) for row in drawn)
    assert ranks == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert drawn == rows_to_draw(rows, limit=10)
