"""Numbers as a person reads them."""

from __future__ import annotations

import doctest

import pytest

from edgepack.cli import supported, words


@pytest.mark.parametrize("module", [words, supported])
def test_the_examples_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (999_999, "1.00 MB"), (2**31, "2.15 GB"), (5e12, "5000 GB")],
)
def test_bytes_are_told_in_powers_of_a_thousand(size_bytes: float, text: str) -> None:
    assert words.size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (9.96, "10 s"), (59.7, "1 min 0 s"), (3600, "1 h 0 min"), (7325, "2 h 2 min")]
)
def test_durations_are_told_as_roughly_as_one_needs(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.0347, "0.0347"), (-12.34, "-12.3"), (1e-7, "1e-07")])
def test_numbers_keep_three_digits(value: float, text: str) -> None:
    assert words.digits(value) == text
