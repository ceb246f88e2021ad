"""Biases of layers with int16 activations and int8 weights: int64, or int32 where no sum of products can overflow.

LiteRT 2.3 computes a convolution with int64 bias in its reference kernel, one with int32 bias in an optimized one (four times faster for the digits example
on x86-64), which adds in 32 bits. A sum is at most Σ|weight code| × 32768 + |bias code|, so the weights say which layers are safe. Depthwise and
transposed convolutions take int64 only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.core.types import Array

_INT32, _INT64 = 2, 4  # TensorType of the file format
_CAN_ADD_IN_32_BITS = ("CONV_2D", "FULLY_CONNECTED")
_LARGEST_CODE = 2**15  # of an activation, as a magnitude


def bias_dtype(kind: str, weight_codes: Array, bias_codes: Array, axis: int) -> str:
    """'int32' or 'int64' for an operator of that kind. `axis` is that of the weight's output channels; bias codes are of shape (channels,)."""
    others = tuple(dimension for dimension in range(weight_codes.ndim) if dimension != axis)
    largest = np.abs(weight_codes.astype(np.float64)).sum(axis=others) * _LARGEST_CODE + np.abs(bias_codes)
    return "int32" if kind in _CAN_ADD_IN_32_BITS and bool((largest < 2**31).all()) else "int64"


def set_bias_type(operator: Any, tensor: Any, dtype: str) -> None:
    """Say it in the file's tensor, and in its operator: LiteRT 2.3 reads a bias as int64 where the operator doesn't say int32."""
    tensor.type = _INT32 if dtype == "int32" else _INT64
    if dtype == "int32":
        operator.builtinOptions.quantizedBiasType = _INT32
