"""Each format as its consumer reads it."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import xmlschema
from markdown_it import MarkdownIt
from pydantic import TypeAdapter

from edgepack.core.errors import UsageError
from edgepack.records import METRICS, RunRecord, RunSummary
from edgepack.store.exports import FORMATS
from edgepack.store.results import ResultStore, Where

Export = Callable[..., bytes]

# bencher.dev/bmf.json: names to names to numbers, `value` at least; the slug's form and length are of Bencher's reference.
BMF: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema",
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"minLength": 1, "maxLength": 1024},
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 64},
        "additionalProperties": {
            "type": "object",
            "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
            "required": ["value"],
            "additionalProperties": False,
        },
    },
}
# The interface BenchmarkResult of github-action-benchmark's src/extract.ts.
GITHUB_ACTION_BENCHMARK: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            **{name: {"type": "string", "minLength": 1} for name in ("name", "unit", "range", "extra")},
            "value": {"type": "number"},
        },
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
    },
}


def test_json_with_samples_holds_every_run_whole(exported: Export, full: ResultStore) -> None:
    content = json.loads(exported("json", samples=True))

    records = [TypeAdapter(RunRecord).validate_python(one["record"]) for one in content["runs"]]
    assert records == list(full.runs())


def test_json_has_what_its_schema_says(exported: Export, full: ResultStore) -> None:
    content = json.loads(exported("json"))

    jsonschema.validate(content["runs"], TypeAdapter(list[RunSummary]).json_schema())
    assert TypeAdapter(list[RunSummary]).validate_python(content["runs"]) == full.summaries()
    assert content["schema"] == "edgepack.results/1"
    assert content["metrics"]["accuracy"] == {"better": "higher", "unit": "share"}
    assert set(content["metrics"]) == set(METRICS)


def test_csv_is_read_by_the_csv_module(exported: Export, full: ResultStore) -> None:
    rows = list(csv.DictReader(io.StringIO(exported("csv").decode("utf-8"), newline="")))

    summaries = full.summaries()
    assert [row["key"] for row in rows] == [summary.key for summary in summaries]
    for row, summary in zip(rows, summaries, strict=True):
        assert {name: float(row[name]) for name in METRICS if row[name]} == summary.metrics
        assert row["reason"] == (summary.reason or "")
        assert row["emulated"] == ("" if summary.environment is None else summary.environment.emulated or "")


def test_parquet_is_read_by_pyarrow(exported: Export, full: ResultStore) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(exported("parquet", samples=True)))

    records = list(full.runs())
    rows = table.to_pylist()
    assert [row["key"] for row in rows] == [record.key for record in records]
    for row, record in zip(rows, records, strict=True):
        assert {name: row[name] for name in METRICS if row[name] is not None} == record.metrics
        assert row["started_at"] == datetime.fromisoformat(record.started_at)
        assert row["samples_ns"] == list(record.samples_ns if record.report is None else record.report.samples_ns)
    assert table.schema.field("started_at").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("latency_p50_ms").metadata == {b"unit": b"ms", b"better": b"lower"}
    assert table.schema.field("guest_instructions").metadata[b"unit"] == b"instructions (a proxy, no latency)"
    assert rows[0]["started_at"].tzinfo is not None and rows[0]["started_at"].astimezone(UTC).hour == 9


def test_parquet_without_samples_has_the_columns_of_csv(exported: Export) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(exported("parquet")))

    header = next(csv.reader(io.StringIO(exported("csv").decode())))
    assert table.schema.names == header


def test_junit_fits_the_schema_of_ci_servers(exported: Export) -> None:
    schema = xmlschema.XMLSchema(str(Path(__file__).parent / "junit.xsd"))

    schema.validate(io.BytesIO(exported("junit")))


def test_junit_tells_how_each_run_ended(exported: Export, full: ResultStore) -> None:
    root = ET.fromstring(exported("junit", bench="b1"))

    suites = {suite.get("hostname"): suite for suite in root.findall("testsuite")}
    suite = suites["ssh:pi5"]
    assert (suite.get("tests"), suite.get("errors"), suite.get("skipped")) == ("9", "2", "1")
    assert [error.get("type") for error in suite.iter("error")] == ["partial", "failed"]
    assert "really `so`" in (suite.findall(".//error")[0].get("message") or "")
    assert [skipped.get("message") for skipped in suite.iter("skipped")] == ["it was hot"]
    times = [float(case.get("time", "nan")) for case in suite.findall("testcase")[:6]]
    wanted = [
        summary.metrics["latency_p50_ms"] / 1e3 for summary in full.summaries(Where(bench="b1", device="pi5"))[:6]
    ]
    assert times == pytest.approx(wanted)


def test_junit_gives_an_emulator_no_time(exported: Export) -> None:
    root = ET.fromstring(exported("junit", bench="qemu-ns"))

    cases = list(root.iter("testcase"))
    assert len(cases) == 2
    assert all(case.get("time") is None for case in cases)
    assert all("emulated by QEMU: no time of a real device" in (case.findtext("system-out") or "") for case in cases)


def test_bmf_fits_benchers_schema(exported: Export) -> None:
    content = json.loads(exported("bmf"))

    jsonschema.validate(content, BMF)
    assert len(content) == 6


def test_bmf_has_the_median_run_between_the_smallest_and_the_largest(exported: Export, full: ResultStore) -> None:
    content = json.loads(exported("bmf", bench="b1", device="pi5", label="float"))

    ((name, measures),) = content.items()
    p50s = [s.metrics["latency_p50_ms"] for s in full.summaries(Where(bench="b1", device="pi5", label="float"))]
    assert name == "digits float for arm64 on ssh:pi5, litert, 1 thread, quick"
    assert measures["latency-p50-ms"] == {
        "value": statistics.median(p50s),
        "lower_value": min(p50s),
        "upper_value": max(p50s),
    }
    assert measures["accuracy"]["value"] == 0.75


def test_bmf_names_a_proxy_and_an_emulator_as_such(exported: Export) -> None:
    (instructions,) = json.loads(exported("bmf", bench="qemu-guest_instructions")).items()
    (emulated,) = json.loads(exported("bmf", bench="qemu-ns")).items()

    assert "guest-instructions-proxy" in instructions[1]
    assert "emulated-p50-ms" in emulated[1]
    for name, measures in (instructions, emulated):
        assert "(emulated by QEMU" in name
        assert not any(measure.startswith("latency") for measure in measures)


@pytest.mark.parametrize(
    ("name", "direction"), [("github-action-benchmark", "lower"), ("github-action-benchmark-bigger", "higher")]
)
def test_github_action_benchmark_gets_the_metrics_of_one_direction(exported: Export, name: str, direction: str) -> None:
    entries = json.loads(exported(name))

    jsonschema.validate(entries, GITHUB_ACTION_BENCHMARK)
    metrics = {entry["name"].rpartition(": ")[2]: entry for entry in entries}
    assert {METRICS[metric][0] for metric in metrics} == {direction}
    assert all(entry["unit"] == METRICS[metric][1] for metric, entry in metrics.items())
    assert len({entry["name"] for entry in entries}) == len(entries)


def test_github_action_benchmark_says_what_is_no_latency(exported: Export) -> None:
    entries = json.loads(exported("github-action-benchmark", bench="qemu-guest_instructions"))

    units = {entry["name"].rpartition(": ")[2]: entry["unit"] for entry in entries}
    assert units["guest_instructions"] == "instructions (a proxy, no latency)"
    assert all("no time of a real device" in entry["extra"] for entry in entries)


def test_the_job_summary_is_a_table_that_markdown_renders(exported: Export, full: ResultStore) -> None:
    text = exported("github-summary", bench="b1").decode()

    html = MarkdownIt("commonmark").enable("table").render(text)
    tree = ET.fromstring(f"<body>{html}</body>")
    tables = tree.findall("table")
    assert len(tables) == 2
    assert [heading.text for heading in tree.findall("h3")] == [
        "ssh:pi5, suite quick, 1 thread",
        "adb:ph|one <1>, suite quick, 1 thread",
    ]
    header = ["".join(cell.itertext()) for cell in tables[0].findall("thead/tr/th")]
    rows = [["".join(cell.itertext()) for cell in row] for row in tables[0].findall("tbody/tr")]
    assert header[:4] == ["model", "runtime", "runs", "latency_p50_ms (ms, lower is better)"]
    assert header[-1] == "accuracy (share, higher is better)"
    assert [row[0] for row in rows] == ["digits 1.0.0 bundle", "digits 1.0.0 float"]
    assert all(len(row) == len(header) for row in rows)
    assert rows[0][2:4] == ["3", "1.001 (1.000 … 1.002)"]
    items = ["".join(item.itertext()) for item in tree.iter("li")]
    assert any(item.startswith('1 × partial: cut | off <b>&amp; "so" it') for item in items)
    assert "1 × void: it was hot" in items


def test_the_job_summary_says_that_a_device_is_emulated(exported: Export) -> None:
    text = exported("github-summary", bench="qemu-ns").decode()

    assert "> Emulated by QEMU: these are no times of a real device." in text
    assert "ms of an emulator" in text
    assert "latency" not in text


@pytest.mark.parametrize("name", ["bmf", "github-action-benchmark", "github-summary"])
def test_one_name_never_means_two_models(full: ResultStore, exported: Export, name: str) -> None:
    from made_runs import run, subject

    full.add([run(0, bench="b2", subject=subject("bundle", model_sha256="77" * 32))])

    with pytest.raises(UsageError, match=r"two models \(abababab… and 77777777…\): choose one bench"):
        exported(name)


@pytest.mark.parametrize("name", ["bmf", "github-action-benchmark", "github-summary"])
def test_runs_that_do_not_count_are_no_figures(exported: Export, name: str) -> None:
    with pytest.raises(UsageError, match="no run is complete"):
        exported(name, status="void")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_nothing_is_exported_where_nothing_fits(exported: Export, name: str) -> None:
    with pytest.raises(UsageError, match="nothing to export: no run in"):
        exported(name, device="nowhere")


@pytest.mark.parametrize("name", sorted(name for name, one in FORMATS.items() if not one.takes_samples))
def test_a_format_without_a_place_for_samples_says_so(exported: Export, name: str) -> None:
    with pytest.raises(UsageError, match="has no place for raw samples: leave --samples out"):
        exported(name, samples=True)


def test_without_pyarrow_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"  # what a missing package looks like to `import`
        "from edgepack.store.exports import FORMATS, _writer\n"
        "_writer(FORMATS['parquet'], 'parquet')"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stderr.splitlines()[-1].endswith(
        "format parquet needs the package 'pyarrow': pip install 'edgepack[parquet]'"
    )


def test_every_metric_has_a_measure_name_that_tells_its_unit() -> None:
    from edgepack.store.exports.bmf import measure

    names = {metric: measure(metric) for metric in METRICS}

    assert len(set(names.values())) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names.values())
