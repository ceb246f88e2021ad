"""Two codes a byte, and back."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.core.nibbles import packed, unpacked


def test_the_first_code_is_the_low_half() -> None:
    assert packed(np.array([1, -1, 7], np.int8)).tolist() == [0xF1, 0x07]


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16])
def test_codes_come_back(count: int) -> None:
    codes = np.resize(np.arange(-8, 8), count).astype(np.int8)

    assert packed(codes).size == (count + 1) // 2
    assert np.array_equal(unpacked(packed(codes), count), codes)
