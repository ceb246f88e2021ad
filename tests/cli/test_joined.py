"""The commands on a bundle for several targets: join, inspect, unpack, and which one a command takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from edgepack.bundle import read_bundle, with_signatures, write_bundle
from edgepack.bundle.manifest import Manifest

Run = Callable[..., Result]


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two bundles of one model for two targets."""
    from small_bundle import content, files

    found = []
    for target in ("arm64", "intel"):
        manifest = Manifest.model_validate(content(target=target))
        inside = {**files(), "reports/verify.json": target.encode()}
        found.append(write_bundle(tmp_path / manifest.file_name, manifest=manifest, files=inside))
    return found


def test_join_writes_the_bundle_of_all_targets(run: Run, pair: list[Path], tmp_path: Path) -> None:
    default = run("join", *pair).stdout.strip()
    named = run("join", *reversed(pair), "-o", tmp_path / "both.edgepack").stdout.strip()

    assert Path(default).name == "digits-1.0.0.edgepack"
    assert Path(default).read_bytes() == Path(named).read_bytes()
    assert read_bundle(Path(named)).manifest.targets == ("arm64", "intel")


def test_signatures_of_the_parts_are_said_to_be_lost(run: Run, pair: list[Path], tmp_path: Path) -> None:
    signed = with_signatures(read_bundle(pair[0]), b"{}", tmp_path / "signed.edgepack")

    result = run("join", signed, pair[1], "-o", tmp_path / "both.edgepack")

    assert "it is not signed" in result.stderr
    assert read_bundle(tmp_path / "both.edgepack").signatures_bytes is None


def test_inspect_shows_every_variant_or_the_one_that_is_named(run: Run, pair: list[Path], tmp_path: Path) -> None:
    run("join", *pair, "-o", tmp_path / "both.edgepack")

    everything = run("inspect", tmp_path / "both.edgepack").stdout
    one = run("inspect", tmp_path / "both.edgepack", "--variant", "intel").stdout

    assert "digits 1.0.0 for arm64 and intel" in everything
    assert everything.count("model/model.tflite, tflite") == 2
    assert one.count("model/model.tflite, tflite") == 1
    assert "did you mean 'intel'" in run("inspect", tmp_path / "both.edgepack", "--variant", "inte", code=2).stderr


def test_unpack_leaves_out_what_serves_other_targets(run: Run, pair: list[Path], tmp_path: Path) -> None:
    run("join", *pair, "-o", tmp_path / "both.edgepack")

    run("unpack", tmp_path / "both.edgepack", tmp_path / "out", "--variant", "intel")

    names = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert "intel/reports/verify.json" in names
    assert {"manifest.json", "labels.txt", "model/model.tflite"} <= names  # the same for both
    assert not any(name.startswith("arm64/") for name in names)


def test_bench_asks_which_model(run: Run, pair: list[Path], tmp_path: Path) -> None:
    run("join", *pair, "-o", tmp_path / "both.edgepack")

    assert "--variant TARGET" in run("bench", tmp_path / "both.edgepack", code=2).stderr


def test_gate_compares_the_models_of_one_target(run: Run, pair: list[Path], tmp_path: Path) -> None:
    both = run("join", *pair, "-o", tmp_path / "both.edgepack").stdout.strip()
    of_size = ("--baseline", pair[1], "--metric", "size_bytes", "--json")

    result = json.loads(run("gate", both, "--variant", "intel", *of_size).stdout)

    assert result["effects"][0]["value"] == 1.0
    assert "--variant TARGET" in run("gate", both, *of_size, code=2).stderr
    assert "--variant: given 3 times" in run("diff", both, both, *["--variant", "intel"] * 3, code=2).stderr


def test_nothing_is_measured_for_a_signed_bundle_that_can_take_no_report(
    run: Run, pair: list[Path], tmp_path: Path
) -> None:
    signed = with_signatures(read_bundle(pair[0]), b"{}", tmp_path / "signed.edgepack")

    assert "is signed" in run("bench", signed, "--attach", tmp_path / "x.edgepack", code=2).stderr


def test_the_tree_adds_up_to_the_file(run: Run, pair: list[Path]) -> None:
    text = run("inspect", pair[0], "--tree").stdout.splitlines()
    tree = json.loads(run("inspect", pair[0], "--tree", "--json").stdout)

    assert tree["size_bytes"] == pair[0].stat().st_size == sum(node["size_bytes"] for node in tree["inside"])
    assert text[0].startswith("digits-1.0.0-arm64.edgepack") and "100.0 %" in text[0]
    assert any("├── golden" in line for line in text)
    assert any("│   ├── output_0.npy" in line or "│   └── output_0.npy" in line for line in text)
    assert [node["size_bytes"] for node in tree["inside"]] == sorted(
        (node["size_bytes"] for node in tree["inside"]), reverse=True
    )


def test_a_bundle_of_thousands_of_files_is_shown_at_once(run: Run, tmp_path: Path) -> None:
    from small_bundle import content, files

    many = {f"more/{index:04}.bin": b"" for index in range(4000)}
    path = write_bundle(
        tmp_path / "many.edgepack", manifest=Manifest.model_validate(content()), files={**files(), **many}
    )

    started = time.monotonic()
    text = run("inspect", path).stdout

    assert "3,955 more" in text
    assert time.monotonic() - started < 5  # on a busy machine; alone it takes a third of a second
