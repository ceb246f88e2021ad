"""Sizes as a person writes them."""

from __future__ import annotations

import pytest

from edgepack.core.sizes import bytes_of


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [("60 kB", 60_000), ("60kB", 60_000), ("2 KiB", 2048), ("1.5MB", 1_500_000), ("12_000", 12_000), (7, 7)],
)
def test_a_size_has_a_number_and_perhaps_a_unit(written: object, size_bytes: int) -> None:
    assert bytes_of(written) == size_bytes


@pytest.mark.parametrize("written", ["", "kB", "60 bits", "1e3 kB", True, 2.5, None])
def test_anything_else_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="must be a size such as"):
        bytes_of(written)
