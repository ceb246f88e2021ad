import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.core.errors import DataError
from edgepack.core.types import QuantParams
from edgepack.runtimes.grid import dequantize, quantize, round_half_away

UNIT = QuantParams(scale=(1.0,), zero_point=(0,))


def test_halves_are_rounded_away_from_zero() -> None:
    values = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4], np.float32)

    assert quantize(values, UNIT).tolist() == [-3, -2, -1, 1, 2, 3, 2]


@given(st.floats(-(2.0**31), 2.0**31, width=32))
def test_rounding_is_that_of_c(value: float) -> None:
    expected = math.copysign(math.floor(abs(value) + 0.5), value)  # exact: doubles hold a float32 plus 0.5

    assert round_half_away(np.float32([value]))[0] == np.float32(expected)


def test_values_beyond_the_grid_saturate() -> None:
    values = np.array([-1e30, -np.inf, 1e30, np.inf, 127.6, -128.6], np.float32)

    assert quantize(values, UNIT).tolist() == [-128, -128, 127, 127, 127, -128]
    assert quantize(values, QuantParams(scale=(1.0,), zero_point=(0,), dtype="uint8")).tolist() == [
        0,
        0,
        255,
        255,
        128,
        0,
    ]


def test_nan_has_no_code() -> None:
    with pytest.raises(DataError, match="NaN"):
        quantize(np.array([np.nan], np.float32), UNIT)


@settings(deadline=None)
@given(st.floats(2.0**-60, 2.0**60, width=32), st.integers(-128, 127))
def test_every_code_comes_back(scale: float, zero_point: int) -> None:
    params = QuantParams(scale=(scale,), zero_point=(zero_point,))
    codes = np.arange(-128, 128).astype(np.int8)

    np.testing.assert_array_equal(quantize(dequantize(codes, params), params), codes)


def test_grids_per_axis_apply_to_their_slices() -> None:
    params = QuantParams(scale=(1.0, 0.5), zero_point=(0, 10), axis=1)
    values = np.array([[1.0, 1.0], [2.0, -2.0]], np.float32)

    codes = quantize(values, params)

    assert codes.tolist() == [[1, 12], [2, 6]]
    np.testing.assert_array_equal(dequantize(codes, params), values)
