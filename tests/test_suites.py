from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from edgepack.core.errors import EdgepackError, RecipeError, UsageError
from edgepack.suites import BenchProtocol, conditions_of, load_suite, suite_names

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "benchmarking.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(suite_names()))
def test_a_shipped_suite_keeps_the_protocols_minima_and_is_explained(name: str) -> None:
    suite = load_suite(name)

    assert suite.suite == name
    assert suite.description
    assert suite.warmup_min_iterations >= 10 and suite.warmup_min_s >= 1
    assert suite.iterations_min >= 50 and suite.duration_min_s >= 2
    assert f"`{name}`" in PAGE


def test_mlperf_is_its_rules() -> None:
    suite = load_suite("mlperf")

    assert (suite.iterations_min, suite.duration_min_s, suite.repetitions) == (1024, 60.0, 5)


def test_the_default_is_quick() -> None:
    assert BenchProtocol(description=load_suite("quick").description) == load_suite("quick")


def test_single_bounds_can_be_changed() -> None:
    changed = load_suite("quick", repetitions=3, threads=None, cores=(1, 2))

    assert (changed.repetitions, changed.threads, changed.cores) == (3, 1, (1, 2))


def test_what_moves_a_number_must_be_equal_in_a_comparison() -> None:
    free = {
        "suite",
        "description",
        "repetitions",
        "timeout_s",
        "cool_timeout_s",
        "retries",
        "repeats_max",
        "threads",
        "cores",
    }

    assert set(conditions_of(BenchProtocol())) == {field.name for field in fields(BenchProtocol)} - free


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        ("repetitions = '3'", RecipeError, "repetitions: Input should be a valid integer"),
        ("repetitions = 0", RecipeError, "repetitions must be at least 1, got 0"),
        ("max_s = 10\ntimeout_s = 5", RecipeError, "need 0 < max_s < timeout_s"),
        ("repetition = 3", RecipeError, r"unknown key 'repetition' \(did you mean 'repetitions'\?\)"),
        ("repetitions =", RecipeError, "not valid TOML"),
        (None, UsageError, "can't be read: No such file"),
    ],
)
def test_a_bad_suite_is_refused(content: str | None, kind: type[EdgepackError], words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_text(content)

    with pytest.raises(kind, match=words) as caught:
        load_suite(str(path))
    assert "mine.toml" in str(caught.value)


def test_an_unknown_name_tells_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown suite 'quik' \(did you mean 'quick'\?\)"):
        load_suite("quik")
