"""The commands that read: inspect, unpack, targets, cache, doctor, schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from edgepack.bundle import read_bundle
from edgepack.cli.supported import VersionRange, supported_python, supported_tools
from edgepack.core.types import Silent
from edgepack.store.cache import StageCache
from edgepack.targets import target_names

Run = Callable[..., Result]


def test_inspect_shows_what_a_bundle_says(run: Run, bundle_path: Path) -> None:
    text = run("inspect", bundle_path).stdout

    for words in (
        "digits 1.0.0 for arm64",
        "Reads [bold] digits.",
        "top1 90.00 %, original 95.00 %, on 1,000 samples",
        "SOME FAILED",
        "1 × 2",
        "0.5",
        "to_float (divide 255.0)",
        "20: label-0,",
        "… (12 more)",
        "model/model.tflite",
        "drop_points",
        "4.00 … 6.00 points",
        "abababab",
        "torch 2.13.0",
        "edgepack verify",
    ):
        assert words in text, words
    assert all(line == line.rstrip() for line in text.splitlines())


def test_inspect_json_is_the_manifest(run: Run, bundle_path: Path) -> None:
    printed = json.loads(run("inspect", bundle_path, "--json").stdout)

    assert printed == json.loads(read_bundle(bundle_path).read("manifest.json"))


@pytest.mark.parametrize("command", ["inspect", "unpack", "verify", "bench"])
def test_a_damaged_bundle_is_refused(run: Run, bundle_path: Path, command: str) -> None:
    bundle_path.write_bytes(bundle_path.read_bytes()[:-1])

    assert run(command, bundle_path, code=10).stderr.splitlines()[-1].startswith(f"edgepack: error: {bundle_path}: ")


@pytest.mark.parametrize("command", ["inspect", "unpack", "verify", "bench"])
def test_a_missing_bundle_is_refused(run: Run, tmp_path: Path, command: str) -> None:
    assert "no such file" in run(command, tmp_path / "none.edgepack", code=10).stderr


def test_unpack_writes_every_file(run: Run, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert run("unpack", bundle_path).stdout == "digits\n"
    assert run("unpack", bundle_path, "a/b").stdout == "a/b\n"
    assert (tmp_path / "digits" / "model" / "model.tflite").read_bytes() == bytes(range(96))
    assert "exists already" in run("unpack", bundle_path, code=2).stderr


def test_targets_are_listed_and_shown(run: Run, tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "mine.toml").write_text('description = "d"\nexporter = "litert"\nruntime = "litert"\n')

    listed = run("targets", "--project", tmp_path).stdout

    rows = [[cell.strip() for cell in line.split("│")] for line in listed.splitlines() if line.count("│") >= 5]
    origin = {row[1]: row[5] for row in rows}
    assert origin["mine"] == "this project"
    assert {name for name, place in origin.items() if place == "edgepack"} >= set(target_names())
    assert "weights_per_channel" in run("targets", "arm64").stdout
    assert json.loads(run("targets", "arm64", "--json").stdout)["arm64"]["exporter"] == "litert"
    assert "did you mean 'arm64'?" in run("targets", "arm46", code=3).stderr


def test_the_cache_is_shown_and_pruned(run: Run, tmp_path: Path) -> None:
    def work(scratch: Path) -> dict[str, object]:
        (scratch / "result").write_bytes(bytes(5000))
        return {}

    StageCache(tmp_path).run("export", "k" * 64, work, progress=Silent())

    assert "export" in run("cache", "show", "--work-dir", tmp_path).stdout
    shown = json.loads(run("cache", "show", "--work-dir", tmp_path, "--json").stdout)
    assert [stage["stage"] for stage in shown["stages"]] == ["export"]
    assert shown["size_bytes"] >= 5000
    assert "0 stages removed" in run("cache", "prune", "--work-dir", tmp_path).stdout
    assert json.loads(run("cache", "prune", "--all", "--work-dir", tmp_path, "--json").stdout)["removed"] == 1
    assert "0 stages" in run("cache", "show", "--work-dir", tmp_path).stdout


def test_an_empty_cache_is_no_mistake(run: Run, tmp_path: Path) -> None:
    assert "0 stages, 0 B" in run("cache", "show", "--work-dir", tmp_path / "none").stdout
    assert "0 stages removed" in run("cache", "prune", "--work-dir", tmp_path / "none").stdout
    assert "exclude each other" in run("cache", "prune", "--all", "--older-than", "3", code=2).stderr


def test_doctor_looks_at_everything_a_build_needs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_TEST_DATA", "nowhere/at/all")
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("EDGEPACK_CACHE_DIR", "nowhere/either")

    result = run("doctor", "--json", code=9)

    found = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert found["Python"]["verdict"] == "ok"
    assert found["torch"]["verdict"] in ("ok", "note")
    assert found["C++ compiler"]["verdict"] == "missing"
    assert found["NNCF's quantizers"]["found"] == "not compiled yet"
    assert "no such folder" in found["EDGEPACK_TEST_DATA"]["found"]
    assert {"system", "CPU cores", "memory", "disk, this folder"} <= set(found)
    assert all(finding["remedy"] for finding in found.values() if finding["verdict"] != "ok")
    assert "this machine lacks: C++ compiler" in result.stderr


@pytest.mark.parametrize(
    ("version", "inside"),
    [("2.13.0+cpu", True), ("2.13", True), ("2.14.0", False), ("2.9", False), ("2.13.1rc1", True), ("3", False)],
)
def test_a_version_lies_in_its_range_or_not(version: str, inside: bool) -> None:
    assert VersionRange(">=2.13,<2.14").allows(version) is inside


def test_the_supported_versions_come_from_the_package() -> None:
    names = {tool.name for tool in supported_tools()}

    assert {"torch", "nncf", "ai-edge-litert", "numpy"} <= names
    assert not names & {"pytest", "mypy"}
    assert supported_python().allows("3.11.7")
    assert not supported_python().allows("3.9.0")


@pytest.mark.parametrize(
    ("kind", "key"), [("recipe", "compress"), ("manifest", "variants"), ("target", "quantization")]
)
def test_schemas_are_printed(run: Run, kind: str, key: str) -> None:
    assert key in json.loads(run("schema", kind).stdout)["properties"]


def test_the_recipes_schema_is_the_one_without_a_kind(run: Run) -> None:
    assert run("schema").stdout == run("schema", "recipe").stdout
