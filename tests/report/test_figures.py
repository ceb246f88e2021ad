"""The figures beside the tables: distributions, the Pareto front, memory, layers, history, state and warnings."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from edgepack.records import RunRecord, RunSummary
from edgepack.report.figures import Figures, figures_of
from edgepack.report.html import html_report
from edgepack.report.material import Given
from tests.report.synthetic import BEGIN, LAYERS, bench_of_boards, builds, fleet, record


def figures_from(records: list[RunRecord], history: list[RunRecord] | None = None) -> Figures:
    others = [RunSummary.of(one) for one in history or records]
    return figures_of(Given(runs=[RunSummary.of(one) for one in records], whole=records, others=others))


@pytest.fixture(scope="module")
def figures() -> Figures:
    return figures_from(bench_of_boards(), [*builds(), *bench_of_boards()])


def test_the_shares_of_a_lane_and_what_lies_beyond_are_all_samples(figures: Figures) -> None:
    for panel in figures.distributions:
        for lane in panel.lanes:
            assert sum(lane.shares) + lane.beyond == pytest.approx(1, abs=1e-4)
            assert lane.samples == lane.runs * {"device": 1200, "emulated": 300, "instructions": 60}[panel.place.kind]


def test_a_reduced_lane_is_the_lane_of_all_samples() -> None:
    run = record("bundle", "pi5", samples=50_000)
    figures = figures_from([run])

    (panel,) = figures.distributions
    (lane,) = panel.lanes
    assert run.report is not None
    relative = np.asarray(run.report.samples_ns) / 1e6 / lane.p50
    exact, _ = np.histogram(relative, bins=panel.edges)
    assert np.abs(np.cumsum(exact) / 50_000 - np.cumsum(lane.shares)).max() < 0.005
    assert lane.largest == max(run.report.samples_ns) / 1e6


def test_a_lane_shows_the_runs_medians_in_their_order(figures: Figures) -> None:
    lane = figures.distributions[0].lanes[0]

    row = figures.row(lane.row)
    runs = [run for run in bench_of_boards() if (run.device, run.subject) == (row.device, row.subject)]
    assert lane.medians == tuple(run.metrics["latency_p50_ms"] for run in runs if run.conditions == row.conditions)
    assert lane.p50 == statistics.median(lane.medians)


def test_emulated_rows_never_share_a_panel_with_a_real_device(figures: Figures) -> None:
    for panels in (figures.distributions, figures.tradeoffs, figures.memories):
        for panel in panels:
            members = getattr(panel, "lanes", None) or getattr(panel, "points", None) or getattr(panel, "lines")  # noqa: B009
            assert {figures.row(one.row).kind for one in members} == {panel.place.kind}
            assert {figures.row(one.row).device for one in members} == {panel.place.device}


def test_what_no_other_model_beats_is_on_the_front(figures: Figures) -> None:
    (panel,) = [panel for panel in figures.tradeoffs if panel.place.device.name == "kitchen-pi5"]

    front = {figures.row(point.row).subject.label for point in panel.points if point.on_front}

    assert front == {"float", "bundle", "pruned"}
    (wide,) = [point for point in panel.points if not point.on_front]
    assert [figures.row(one).subject.label for one in wide.beaten_by] == ["bundle", "float"]


def test_without_an_accuracy_the_front_is_of_size_and_time() -> None:
    records = [replace(run, accuracy=None) for label in ("float", "bundle", "wide") for run in [record(label, "pi5")]]

    (panel,) = figures_from(records).tradeoffs

    assert not panel.with_accuracy
    assert [point.on_front for point in panel.points] == [True, False, False]


@pytest.mark.parametrize("what", ["bundle", "protocol", "inputs"])
def test_models_that_may_not_be_compared_share_no_front(what: str) -> None:
    def other(run: RunRecord) -> RunRecord:
        conditions = run.conditions
        return {
            "bundle": replace(run, subject=replace(run.subject, bundle="faces")),
            "protocol": replace(run, conditions=replace(conditions, protocol={**conditions.protocol, "max_s": 5.0})),
            "inputs": replace(run, conditions=replace(conditions, inputs_sha256="77" * 32)),
        }[what]

    runs = [record(label, "pi5") for label in ("float", "bundle")]

    panels = figures_from([*runs, *map(other, runs)]).tradeoffs

    assert [len(panel.points) for panel in panels] == [2, 2]
    assert len({panel.about for panel in panels}) == 2
    assert figures_from(runs).tradeoffs[0].about == ""


def test_memory_lines_are_medians_over_the_runs(figures: Figures) -> None:
    line = figures.memories[0].lines[0]

    row = figures.row(line.row)
    peaks = [
        run.report.memory.peak_bytes
        for run in bench_of_boards()
        if run.report and (run.device, run.subject, run.conditions) == (row.device, row.subject, row.conditions)
    ]
    assert line.peak_bytes == statistics.median(peaks)


def test_a_value_that_stands_for_unknown_is_shown_as_unknown() -> None:
    """As devices/native.py has it: 0 in a field that has to be a number, and why in `missing`."""
    run = record("bundle", "phone")
    assert run.report is not None
    memory = replace(run.report.memory, peak_bytes=0, before_load_bytes=0, missing={"peak_bytes": "0 is unknown"})
    states = {
        name: replace(getattr(run.report, name), load_average=0.0, missing={"load_average": "0 is unknown"})
        for name in ("before", "after")
    }

    found = figures_from([replace(run, report=replace(run.report, memory=memory, during=(), **states))])

    (row,) = found.rows.rows
    assert row.numbers["peak_memory_bytes"].value is None
    assert row.numbers["model_memory_bytes"].why_none == "the device didn't tell it"
    assert found.memories == ()
    load = next(field for field in found.states[0].fields if field.name == "load_average")
    assert [phase.low for phase in load.phases] == [None, None, None]
    assert load.missing == ("0 is unknown",)


def test_layers_are_named_as_in_the_source_and_operators_without_one_are_marked(figures: Figures) -> None:
    profile = next(one for one in figures.profiles if figures.row(one.row).subject.label == "bundle")

    assert [layer.name for layer in profile.layers] == ["tfl.quantize", *LAYERS]
    assert [layer.is_source for layer in profile.layers] == [False, *[True] * len(LAYERS)]
    assert sum(layer.share for layer in profile.layers) == pytest.approx(1)


def test_history_has_one_moment_a_bench_in_time(figures: Figures) -> None:
    panel = next(panel for panel in figures.history.panels if panel.metric == "latency_p50_ms")
    (line,) = [line for line in panel.lines if line.label == "bundle"]

    versions = [moment.version for moment in line.moments]

    assert panel.place.device.name == "kitchen-pi5"
    assert versions == ["0.7.0", "0.8.0", "0.9.0", "0.9.1", "1.1.0", "1.2.0", "1.2.1", "1.0.0"]
    old = [run.metrics["latency_p50_ms"] for run in builds() if run.subject.version == "0.7.0"]
    assert line.moments[0].value in old
    assert all(moment.changed == "" for moment in line.moments)


def test_a_new_runtime_is_marked_in_the_history() -> None:
    old = record("bundle", "pi5", bench="one")
    new = record("bundle", "pi5", bench="two", started=BEGIN + timedelta(days=1))
    assert new.report is not None
    newer = replace(
        new, report=replace(new.report, environment=replace(new.report.environment, runtime_version="2.4.0"))
    )

    history = figures_from([old], [old, newer]).history

    assert [moment.changed for moment in history.panels[0].lines[0].moments] == ["", "runtime"]


def test_a_field_that_a_device_does_not_tell_has_its_reason(figures: Figures) -> None:
    panel = next(panel for panel in figures.states if panel.place.device.name == "arm64-vm")
    fields = {field.name: field for field in panel.fields}

    assert fields["temperature_c"].missing == ("no thermal zone in /sys (a virtual machine?)",)
    assert all(phase.low is None for phase in fields["temperature_c"].phases)
    assert fields["load_average"].phases[0].low == 1.2


def test_a_device_s_state_keeps_its_phases_apart(figures: Figures) -> None:
    panel = next(panel for panel in figures.states if panel.place.device.name == "pixel-7")
    temperature = next(field for field in panel.fields if field.name == "temperature_c")

    assert [phase.low for phase in temperature.phases] == [47.0, 48.0, 49.2]


def test_doubtful_rows_are_named(figures: Figures) -> None:
    kinds = {doubt.kind for doubt in figures.doubts}

    assert {"not counted", "emulated", "governor"} <= kinds
    assert "one run" in {doubt.kind for doubt in figures_from([record("bundle", "pi5")]).doubts}


def test_figures_are_json_and_the_same_every_time(figures: Figures) -> None:
    again = figures_from(bench_of_boards(), [*builds(), *bench_of_boards()])

    assert json.dumps(figures.as_dict(), allow_nan=False) == json.dumps(again.as_dict())
    assert json.loads(json.dumps(figures.as_dict())) == figures.as_dict()


def test_many_devices_are_shown_at_a_glance_from_the_fastest_to_the_slowest() -> None:
    runs = fleet(devices=30, runs=3)

    panels = figures_of(Given(runs=runs, whole=())).fleets

    assert [panel.metric for panel in panels] == ["latency_p50_ms", "peak_memory_bytes"]
    (line,) = panels[0].lines
    assert list(line.values) == sorted(line.values)
    assert len(line.values) == 30


def test_a_few_devices_make_no_fleet(figures: Figures) -> None:
    assert figures.fleets == ()


def test_300_devices_make_a_page_of_less_than_5_mb() -> None:
    runs = fleet(devices=300, runs=20)

    page = html_report(runs, details=(), history=runs)

    assert len(page.encode()) < 5e6
    assert page.count("<tr data-row=") == 300
