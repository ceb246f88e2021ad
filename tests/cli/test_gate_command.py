"""`edgepack gate` on real bundles, measured in real processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from made_benches import bench_of
from made_bundles import bundle_around

from edgepack.cli.gate import raise_unless_passed
from edgepack.core.errors import Inconclusive
from edgepack.gate import GateResult
from edgepack.stats import Verdict
from edgepack.store.results import open_store


@pytest.fixture(scope="module")
def heavier_tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny_tflite's input and output with some hundred times its work between."""
    import litert_torch
    import torch

    layers = [torch.nn.Conv2d(3, 64, 3, padding=1), torch.nn.Conv2d(64, 64, 3, padding=1), torch.nn.Conv2d(64, 64, 3)]
    network = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(64 * 36, 4)).eval()
    path = tmp_path_factory.mktemp("heavier") / "heavier.tflite"
    litert_torch.convert(network, (torch.zeros(1, 3, 8, 8),)).export(str(path))
    return path


@pytest.fixture
def bundles(tmp_path: Path, tiny_tflite: Path, heavier_tflite: Path) -> tuple[Path, Path, Path]:
    return (
        bundle_around(tiny_tflite, tmp_path / "old.edgepack"),
        bundle_around(tiny_tflite, tmp_path / "same.edgepack"),
        bundle_around(heavier_tflite, tmp_path / "slow.edgepack"),
    )


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "results.sqlite"))


def test_a_slower_model_fails_with_code_8_and_a_summary(
    run: Callable[..., Result], bundles: tuple[Path, Path, Path], tmp_path: Path, brief: Path
) -> None:
    old, same, slow = bundles
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")

    result = run("gate", slow, "--baseline", old, "--pairs", 5, "--suite", brief, "--summary", summary, code=8)

    assert "gate: FAIL: slow.edgepack against old.edgepack" in result.output
    assert "worse than old.edgepack by more than its tolerance: latency_p50_ms on this machine" in result.output
    assert summary.read_text().startswith("before\n### ❌ edgepack gate: FAIL")
    with open_store() as store:
        (kept,) = store.benches()
        assert [one.label for one in kept.subjects] == ["baseline", "bundle"]
        assert f"kept as {kept.bench[:12]}" in result.output

    # The runs that are kept are a baseline for what has no noise.
    stored = ("--baseline", "baseline@latest", "--metric", "size_bytes", "--metric", "peak_memory_bytes", "--json")
    content = json.loads(run("gate", same, *stored).stdout)

    assert content["verdict"] == "PASS"
    assert [one["count"] for one in content["effects"]] == [3, 3]


@pytest.mark.slow
def test_a_faster_model_passes_as_json(
    run: Callable[..., Result], bundles: tuple[Path, Path, Path], brief: Path
) -> None:
    old, _, slow = bundles
    asked = ("--metric", "latency_p50_ms", "--metric", "size_bytes", "--pairs", 5, "--suite", brief)

    content = json.loads(run("gate", old, "--baseline", slow, *asked, "--json").stdout)

    assert content["verdict"] == "PASS"
    assert [one["metric"] for one in content["effects"]] == ["latency_p50_ms", "size_bytes"]
    assert content["effects"][0]["value"] < 1


def test_sizes_alone_are_judged_without_a_run(run: Callable[..., Result], bundles: tuple[Path, Path, Path]) -> None:
    old, same, slow = bundles

    assert "PASS" in run("gate", same, "--baseline", old, "--metric", "size_bytes", "--tolerance", "0").output
    assert "any device" in run("gate", slow, "--baseline", old, "--metric", "size_bytes", code=8).output


def test_a_latency_against_a_stored_bench_is_refused(
    run: Callable[..., Result], bundles: tuple[Path, Path, Path]
) -> None:
    with open_store() as store:
        store.add(bench_of({"bundle": [1.0]}))

    output = run("gate", bundles[0], "--baseline", "latest", code=2).output

    assert "'latest' is a stored bench" in output
    assert "Give the baseline's bundle file" in output


def test_a_drop_of_accuracy_needs_samples(run: Callable[..., Result], bundles: tuple[Path, Path, Path]) -> None:
    output = run("gate", bundles[1], "--baseline", bundles[0], "--max-drop-points", "0.5", code=2).output

    assert "with --accuracy RECIPE" in output


def test_an_undecided_gate_ends_with_code_12() -> None:
    result = GateResult(baseline="old", bundle="new", verdict=Verdict.INCONCLUSIVE, effects=(), hints=("run more",))

    with pytest.raises(Inconclusive, match="new: not decided against old") as caught:
        raise_unless_passed(result)

    assert caught.value.exit_code == 12
