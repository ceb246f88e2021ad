"""build, plan, verify and bench on a small real project: what they print, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from small_project import PTQ, Project, copy_built

from edgepack.bench import BenchProtocol, BenchResult
from edgepack.bundle import read_bundle, write_bundle
from edgepack.bundle.golden import to_npy
from edgepack.cli.bench_tables import bench_conditions, bench_table
from edgepack.cli.progress import shown_progress
from edgepack.cli.terminal import draw
from edgepack.core.digest import sha256_file
from edgepack.opened import bench

Run = Callable[..., Result]
QUICK = BenchProtocol(warmup_min_s=0, warmup_max_s=0, duration_min_s=0, iterations_min=20, repetitions=5)


@pytest.fixture
def project(built_project: Callable[[str], Project], tmp_path: Path) -> Project:
    return copy_built(built_project(PTQ), tmp_path / "project")


@pytest.fixture
def bundle(project: Project) -> Path:
    (path,) = (project.folder / "dist").glob("*.edgepack")
    return path


def test_build_shows_its_checks_and_ends_with_the_path(run: Run, project: Project, bundle: Path) -> None:
    result = run("build", "--recipe", project.folder)

    assert result.stdout.splitlines()[-1] == str(bundle)
    for words in ("top1_agreement", "drop_points", "95 % CI", "✓", "original", "model "):
        assert words in result.stdout


def test_build_json_is_one_object_and_names_what_was_made(run: Run, project: Project, bundle: Path) -> None:
    content = json.loads(run("build", "--recipe", project.recipe, "--json", "--target", "arm64").stdout)
    (made,) = content["bundles"]

    assert made["bundle"] == str(bundle)
    assert made["sha256"] == sha256_file(bundle)
    assert made["size_bytes"] == bundle.stat().st_size
    assert made["checks_passed"] is True
    assert {check["name"] for check in made["checks"]} >= {"top1_agreement", "drop_points"}
    assert made["metric"]["name"] == "top1"
    assert content["seconds"] >= 0
    assert [row["kind"] for row in content["parity"]["rows"]][:3] == ["float", "compressed", "runtime"]


def test_quiet_prints_the_path_only(run: Run, project: Project, bundle: Path) -> None:
    result = run("build", "-r", project.folder, "--quiet")

    assert (result.stdout, result.stderr) == (f"{bundle}\n", "")


def test_every_target_is_built_in_turn(run: Run, project: Project) -> None:
    (project.folder / "targets").mkdir()
    arm64 = Path(__file__).parents[2] / "targets" / "arm64.toml"
    (project.folder / "targets" / "other.toml").write_text(arm64.read_text())

    made = json.loads(run("build", "-r", project.folder, "-t", "arm64", "-t", "other", "--json").stdout)["bundles"]

    assert [one["target"] for one in made] == ["arm64", "other"]


def test_a_failed_check_is_exit_code_8_unless_allowed(run: Run, project: Project) -> None:
    project.replace("[budget]", "[budget]\nsize_bytes = 1")

    assert "size_bytes" in run("build", "-r", project.folder, code=8).stderr
    allowed = run("build", "-r", project.folder, "--allow-failed-checks")
    assert "✗" in allowed.stdout
    assert "Some checks failed" in allowed.stdout


def test_a_mistake_in_the_recipe_is_exit_code_3(run: Run, project: Project) -> None:
    project.replace("[budget]", "[budgte]")

    message = run("build", "-r", project.folder, code=3).stderr

    assert "unknown key 'budgte'" in message
    assert "did you mean 'budget'" in message


def test_no_recipe_is_exit_code_3_and_names_init(run: Run, tmp_path: Path) -> None:
    assert "edgepack init" in run("build", "-r", tmp_path, code=3).stderr


def test_plan_shows_what_a_build_would_do(run: Run, project: Project, bundle: Path) -> None:
    run("build", "-r", project.folder)  # in a new place the model is loaded once to see what it imports
    text = run("plan", "-r", project.folder).stdout
    content = json.loads(run("plan", "-r", project.folder, "--json").stdout)

    assert "quantize (mode ptq" in text
    assert content["targets"][0]["bundle"] == str(bundle)
    assert {stage["stage"] for stage in content["stages"] if stage["is_done"]} >= {
        "baseline",
        "quantize",
        "export",
        "outputs",
    }
    assert content["data"]["train"]["sha256"] in text
    assert content["compress"][0]["method"] == "quantize"


def test_verify_runs_the_golden_samples(run: Run, bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = run("verify", bundle)
    content = json.loads(run("verify", bundle, "--json").stdout)

    assert "whole" in result.stdout
    assert "✓" in result.stdout
    assert "XNNPACK" not in capfd.readouterr().err  # the runtime's own words
    assert content["passed"] is True
    assert content["sha256"] == sha256_file(bundle)
    assert content["variants"][0]["golden"][0]["largest_steps"] == 0


def test_other_golden_outputs_are_exit_code_8(run: Run, bundle: Path, tmp_path: Path) -> None:
    opened = read_bundle(bundle)
    files: dict[str, bytes | Path] = {name: opened.read(name) for name in opened.names if name != "manifest.json"}
    golden = opened.variant().golden
    assert golden is not None
    shape = (golden.samples, *opened.variant().outputs[0].shape[1:])
    files[golden.outputs[0]] = to_npy(np.full(shape, 127, np.int8))
    other = write_bundle(tmp_path / "other.edgepack", manifest=opened.manifest, files=files)

    result = run("verify", other, "--json", code=8)

    assert json.loads(result.stdout)["passed"] is False
    assert "other outputs than the build recorded" in result.stderr


def test_bench_compares_with_the_float_model(run: Run, bundle: Path, brief: Path, tmp_path: Path) -> None:
    result = run("bench", bundle, "--against-float", "--suite", brief, "--repetitions", 1, "--save", tmp_path / "saved")

    lines = result.stdout.splitlines()
    rows = [line for line in lines if line.startswith(("│ float", "│ bundle"))]
    assert rows[0].startswith("│ float")
    assert "1×" in rows[0]
    assert all(" ms" in row and " MB" in row and " %" in row for row in rows)
    assert any("one run can't tell" in line for line in lines)
    assert lines[-1] == str(bundle)
    assert json.loads((tmp_path / "saved" / "bench.json").read_text())["protocol"]["repetitions"] == 1


def test_bench_json_has_no_raw_samples(run: Run, bundle: Path) -> None:
    content = json.loads(run("bench", bundle, "--repetitions", 1, "--json").stdout)

    assert [one["label"] for one in content["measurements"]] == ["bundle"]
    assert "runs" not in content
    assert content["metric"]["name"] == "top1"


def test_a_benchmark_is_attached_to_the_bundle(run: Run, bundle: Path, brief: Path, tmp_path: Path) -> None:
    run("bench", bundle, "--suite", brief, "--repetitions", 1, "--attach", tmp_path / "measured.edgepack")

    measured = read_bundle(tmp_path / "measured.edgepack")
    report = json.loads(measured.read("reports/benchmark.json"))
    assert [one["label"] for one in report["measurements"]] == ["bundle"]
    assert str(bundle) not in json.dumps(report)
    assert measured.manifest.variants == read_bundle(bundle).manifest.variants
    run("verify", measured.path)


def test_together_writes_the_bundle_of_all_targets(run: Run, project: Project, bundle: Path) -> None:
    alone = json.loads(run("build", "-r", project.folder, "--together", "--json").stdout)

    assert alone["together"]["bundle"] == alone["bundles"][0]["bundle"]  # of one target it is that bundle


def test_without_the_float_model_bench_says_where_it_looked(run: Run, bundle: Path, tmp_path: Path) -> None:
    message = run("bench", bundle, "--against-float", "--work-dir", tmp_path / "none", code=2).stderr

    assert str(tmp_path / "none") in message
    assert "--work-dir" in message


@pytest.fixture
def measured(bundle: Path) -> BenchResult:
    with shown_progress(quiet=True) as progress:
        return bench(bundle, protocol=QUICK, progress=progress)


def test_more_is_faster_in_the_column_of_speed(
    measured: BenchResult, bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    from edgepack.bench import Comparison
    from edgepack.stats import Ratio

    one = measured.measurements[0]
    slow = replace(one, label="float", sha256="0" * 64, size_bytes=4 * one.size_bytes)
    ratio = Ratio(value=0.5, ci95=(0.4, 0.8), pairs=5)
    both = replace(
        measured,
        measurements=(slow, one),
        comparisons=(Comparison(label="bundle", baseline="float", ratio=ratio),),
    )

    draw(bench_table(both, read_bundle(bundle).variant(), title="tiny"), bench_conditions(both))

    text = capsys.readouterr().out
    assert "2.00×  (1.25 … 2.50)" in text
    assert "(÷4.0)" in text
    assert "1 thread · suite quick: 5 processes per model" in text
