from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from made_benches import bench_of, noisy_ms

from edgepack.store.results import open_store


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with one bench of two models, the bundle twice as fast, and an older one on two threads."""
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "results.sqlite"))
    quick = [one / 2 for one in noisy_ms(8, seed=2)]
    with open_store() as store:
        store.add(bench_of({"bundle": quick}, bench="0ld", conditions={"threads": 2}))
        store.add(bench_of({"float": noisy_ms(8, seed=1), "bundle": quick}, bench="new"))


def test_the_table_shows_ratio_interval_and_verdict(run: Callable[..., Result]) -> None:
    output = run("compare", "float@latest", "latest", "--metric", "latency_p50_ms").output

    assert "latency_p50_ms" in output
    assert "0.50" in output
    assert "8 pairs" in output
    assert "PASS" in output


def test_json_is_one_object(run: Callable[..., Result]) -> None:
    content = json.loads(run("compare", "float@new", "bundle@new", "--json").stdout)

    first = content["effects"][0]
    assert (content["a"], first["metric"], first["verdict"]) == ("float@new", "latency_p50_ms", "PASS")


def test_a_regression_is_shown_and_does_not_fail_the_command(run: Callable[..., Result]) -> None:
    assert "FAIL" in run("compare", "bundle@new", "float@new", "--tolerance", "50%").output


def test_results_that_differ_in_threads_are_refused(run: Callable[..., Result]) -> None:
    output = run("compare", "0ld", "new", code=2).output

    assert "threads: 2 ('0ld'), 1 ('new')" in output


@pytest.mark.parametrize("text", ["many", "-1", "150%"])
def test_a_tolerance_that_is_none_is_refused(run: Callable[..., Result], text: str) -> None:
    assert "write '3%' or '0.03'" in run("compare", "new", "new", "--tolerance", text, code=2).output
