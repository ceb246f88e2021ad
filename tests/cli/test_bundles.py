"""One real build through the console entry, and every command that reads its bundle or its stages."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from small_project import Project

from edgepack.core.digest import sha256_file
from edgepack.core.errors import BundleError, CheckFailed, UsageError

Call = Callable[..., Result]
Shell = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A project that was built by the command, and what the command said."""

    project: Project
    ended: subprocess.CompletedProcess[str]

    @property
    def summary(self) -> dict[str, Any]:
        (summary,) = json.loads(self.ended.stdout)["bundles"]
        return dict(summary)

    @property
    def bundle(self) -> Path:
        return Path(self.summary["bundle"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, project_files: Project, shell: Shell) -> Built:
    project = project_files.copy(tmp_path_factory.mktemp("cli") / "project")
    ended = shell("build", "--recipe", project.folder, "--json")
    assert ended.returncode == 0, ended.stderr
    return Built(project=project, ended=ended)


@pytest.fixture
def damaged(built: Built, tmp_path: Path) -> Path:
    """The bundle with one byte of its model changed."""
    data = bytearray(built.bundle.read_bytes())
    data[data.index(b"TFL3") + 40] ^= 0xFF
    path = tmp_path / "damaged.edgepack"
    path.write_bytes(data)
    return path


def test_build_prints_one_json_object_and_tells_progress_on_standard_error(built: Built) -> None:
    summary = built.summary

    assert summary["target"] == "arm64"
    assert summary["sha256"] == sha256_file(built.bundle)
    assert summary["size_bytes"] == built.bundle.stat().st_size
    assert summary["checks_passed"]
    assert {check["kind"] for check in summary["checks"]} == {"fidelity", "accuracy"}
    assert "✓ Converting to LiteRT" in built.ended.stderr


def test_a_failed_check_ends_a_build_with_its_own_exit_code_and_no_bundle(
    built: Built, shell: Shell, tmp_path: Path
) -> None:
    copy = Project(folder=shutil.copytree(built.project.folder, tmp_path / "copy"))
    shutil.rmtree(copy.folder / "dist")
    copy.replace("[budget]", "[budget]\nsize_bytes = 100")

    ended = shell("build", "--recipe", copy.folder, "--json")

    assert ended.returncode == CheckFailed.exit_code
    assert ended.stdout == ""  # nor what NNCF prints
    assert "size_bytes" in ended.stderr and "--allow-failed-checks" in ended.stderr
    assert [file.name for file in (copy.folder / "dist").iterdir()] == ["tiny-1.0.0-arm64.failed.json"]

    allowed = shell("build", "--recipe", copy.folder, "--allow-failed-checks", "--json")

    assert allowed.returncode == 0
    (summary,) = json.loads(allowed.stdout)["bundles"]
    assert not summary["checks_passed"]


def test_inspect_shows_what_the_manifest_says(built: Built, call: Call) -> None:
    shown = call("inspect", built.bundle)
    manifest = json.loads(call("inspect", "--json", built.bundle).stdout)

    assert shown.exit_code == 0
    assert "tiny 1.0.0 for arm64" in shown.stdout
    assert "all passed" in shown.stdout
    assert manifest["name"] == "tiny"
    assert manifest["variants"][0]["model"]["sha256"][:16] in shown.stdout


def test_verify_proves_that_the_bundle_is_whole_and_runs_right(built: Built, call: Call) -> None:
    shown = call("verify", built.bundle)
    content = json.loads(call("verify", "--json", built.bundle).stdout)

    assert shown.exit_code == 0
    assert "whole, " in shown.stdout
    assert content["passed"] and content["whole"]
    assert content["sha256"] == built.summary["sha256"]
    assert [one["differing"] for one in content["variants"][0]["golden"]] == [0]


def test_verify_ends_with_the_checks_exit_code_where_the_outputs_differ(
    built: Built, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepack import verified

    right = verified.check_golden
    monkeypatch.setattr(
        verified,
        "check_golden",
        lambda *given: tuple(dataclasses.replace(one, largest_steps=float("inf")) for one in right(*given)),
    )

    result = call("verify", "--json", built.bundle)

    assert result.exit_code == CheckFailed.exit_code
    assert json.loads(result.stdout)["passed"] is False
    assert json.loads(result.stdout)["variants"][0]["golden"][0]["largest_steps"] is None
    assert "other outputs than the build recorded for 'output'" in result.stderr


def test_unpack_writes_every_file_into_a_new_folder_only(built: Built, call: Call, tmp_path: Path) -> None:
    result = call("unpack", built.bundle, tmp_path / "app")

    names = {str(file.relative_to(tmp_path / "app")) for file in (tmp_path / "app").rglob("*") if file.is_file()}
    assert result.exit_code == 0
    assert {"manifest.json", "model/model.tflite", "preprocess.py", "labels.txt"} <= names
    assert call("unpack", built.bundle, tmp_path / "app").exit_code == UsageError.exit_code


def test_unpack_names_the_folder_after_the_bundle(
    built: Built, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert call("unpack", built.bundle).stdout == "tiny-1.0.0-arm64\n"
    assert (tmp_path / "tiny-1.0.0-arm64" / "manifest.json").is_file()


def test_bench_measures_the_bundle_beside_its_float_model(
    built: Built, call: Call, brief: Path, tmp_path: Path
) -> None:
    short = ("--suite", brief, "--repetitions", 1)
    result = call("bench", built.bundle, "--against-float", *short, "--json", "--save", tmp_path)

    content = json.loads(result.stdout)
    assert result.exit_code == 0
    assert [one["label"] for one in content["measurements"]] == ["float", "bundle"]
    assert all(one["p50_ms"] > 0 and one["peak_memory_bytes"] > 0 for one in content["measurements"])
    assert content["protocol"]["repetitions"] == 1
    assert "runs" not in content
    assert json.loads((tmp_path / "bench.json").read_text())["measurements"] == content["measurements"]


@pytest.mark.parametrize("command", ["verify", "bench", "unpack"])
def test_a_damaged_bundle_is_refused_with_its_own_exit_code(
    damaged: Path, call: Call, tmp_path: Path, command: str
) -> None:
    result = call(command, damaged, *([tmp_path / "app"] if command == "unpack" else []))

    assert result.exit_code == BundleError.exit_code
    assert result.stdout == ""
    assert "edgepack: error: " in result.stderr and "damaged.edgepack" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "app").exists()


def test_half_a_bundle_is_not_inspected(built: Built, call: Call, tmp_path: Path) -> None:
    data = built.bundle.read_bytes()
    (tmp_path / "half.edgepack").write_bytes(data[: len(data) // 2])

    result = call("inspect", tmp_path / "half.edgepack")

    assert result.exit_code == BundleError.exit_code
    assert result.stdout == ""


def test_cache_show_lists_the_stages_and_prune_removes_them(built: Built, call: Call, tmp_path: Path) -> None:
    work = shutil.copytree(built.project.work, tmp_path / "work")

    content = json.loads(call("cache", "show", "--work-dir", work, "--json").stdout)
    shown = call("cache", "show", "--work-dir", work).stdout

    stages = [one["stage"] for one in content["stages"]]
    assert {"load", "baseline", "quantize", "export", "verify", "bundle"} <= set(stages)
    assert all(stage in shown for stage in stages)
    assert f"{len(stages)} stages" in shown
    kept = json.loads(call("cache", "prune", "--work-dir", work, "--json").stdout)
    assert kept["removed"] == 0  # all of them are young
    gone = call("cache", "prune", "--all", "--work-dir", work)
    assert f"{len(stages)} stages removed" in gone.stdout
    assert not list((work / "stages").iterdir())


def test_cache_prune_takes_either_all_or_an_age(call: Call, tmp_path: Path) -> None:
    result = call("cache", "prune", "--all", "--older-than", "3", "--work-dir", tmp_path)

    assert result.exit_code == UsageError.exit_code
    assert "exclude each other" in result.stderr


def test_a_cache_that_is_not_there_is_empty_and_is_not_made(call: Call, tmp_path: Path) -> None:
    for command in ("show", "prune"):
        result = call("cache", command, "--work-dir", tmp_path / "none")

        assert result.exit_code == 0
        assert "0 stages" in result.stdout
    assert not (tmp_path / "none").exists()
