"""Between real values and codes: real = scale × (code − zero_point)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepack.core.errors import DataError
from edgepack.core.types import Array, QuantParams


def quantize(values: Array, params: QuantParams) -> Array:
    """The nearest codes of some real values, saturated at the ends of the dtype.

    Same arithmetic as LiteRT's reference QUANTIZE kernel (tflite/kernels/internal/reference/quantize.h): float32
    division by the scale, halves rounded away from zero. A faster kernel may round halves to even, or multiply by
    1/scale; such a code differs by 1, and only where a value lies on the middle between two codes.
    Raises DataError for NaN, which has no code.
    """
    if np.isnan(values).any():
        raise DataError(
            "an input holds NaN, which no integer code stands for; look at the sample and its preprocessing"
        )
    limits = np.iinfo(params.dtype)
    scaled = values.astype(np.float32) / _along_axis(params.scale, np.float32, params, values.ndim)
    zero_point = _along_axis(params.zero_point, np.float64, params, values.ndim)
    codes = round_half_away(scaled).astype(np.float64) + zero_point
    return np.clip(codes, limits.min, limits.max).astype(params.dtype)


def dequantize(codes: Array, params: QuantParams) -> NDArray[np.float32]:
    """The real values that some codes stand for; float32 with one rounding, as LiteRT's DEQUANTIZE kernel."""
    zero_point = _along_axis(params.zero_point, np.int64, params, codes.ndim)
    scale = _along_axis(params.scale, np.float64, params, codes.ndim)
    real: NDArray[np.float32] = (scale * (codes.astype(np.int64) - zero_point)).astype(np.float32)
    return real


def round_half_away(values: Array) -> Array:
    """Round as C's `round`: to nearest, halves away from zero. (np.rint rounds halves to even.)"""
    whole = np.trunc(values)
    with np.errstate(invalid="ignore"):  # inf - inf
        up = np.abs(values - whole) >= 0.5
    rounded: Array = whole + np.where(up, np.sign(values), 0).astype(values.dtype)
    return rounded


def _along_axis(numbers: tuple[float, ...], dtype: type, params: QuantParams, dimensions: int) -> Array:
    array: Array = np.asarray(numbers, dtype=dtype)
    if params.axis is None or dimensions == 0:
        return array.reshape(())
    return array.reshape([-1 if axis == params.axis else 1 for axis in range(dimensions)])
