"""Keras layers as plain torch functions, where Keras' torch backend computes them in a way that no edge runtime has an operator for.

Keras pads by repeating borders before it pools, crops after a transposed convolution and adds the bias then, upsamples by rank-6 reshapes, and so on.
The values are the same but for one layer: average pooling with padding 'same', where Keras' torch backend counts the repeated border
(3.15.1) and TensorFlow, in which such models are trained, does not. Here TensorFlow is followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

_CONVOLUTIONS_TRANSPOSED = {
    3: functional.conv_transpose1d,
    4: functional.conv_transpose2d,
    5: functional.conv_transpose3d,
}
_AVERAGE_POOLS: dict[int, Callable[..., torch.Tensor]] = {
    3: functional.avg_pool1d,
    4: functional.avg_pool2d,
    5: functional.avg_pool3d,
}
_MAX_POOLS: dict[int, Callable[..., torch.Tensor]] = {
    3: functional.max_pool1d,
    4: functional.max_pool2d,
    5: functional.max_pool3d,
}
Original = Callable[..., Any]


@contextmanager
def pooling_as_trained() -> Iterator[None]:
    """Average pooling as in TensorFlow, for the block."""
    from keras.src import backend

    with _replaced(backend.nn, "average_pool", _average_pool):
        yield


@contextmanager
def plain_layers() -> Iterator[None]:
    """Every layer of this file in its plain form, for the block."""
    from keras import layers
    from keras.src import backend
    from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose

    with (
        pooling_as_trained(),
        _replaced(backend.nn, "max_pool", _max_pool),
        _replaced(BaseConvTranspose, "call", _conv_transpose),
        _replaced(layers.UpSampling2D, "call", _up_sampling),
        _replaced(layers.PReLU, "call", _prelu),
        _replaced(layers.Embedding, "call", _embedding),
        _replaced(layers.EinsumDense, "call", _einsum_dense),
    ):
        yield


@contextmanager
def _replaced(owner: Any, name: str, new: Callable[..., Any]) -> Iterator[None]:
    """`owner.name` calls `new` with the original as its first argument."""
    original = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        return new(original, *args, **kwargs)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)


# --- Pooling --------------------------------------------------------------------------------------------------------


def _average_pool(
    original: Original,
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: Any = None,
) -> Any:
    if padding != "same":
        return original(inputs, pool_size, strides, padding, data_format)
    sizes, steps = _each(inputs, pool_size), _each(inputs, strides or pool_size)
    x = _channels_first(inputs, data_format)
    pads = _same_padding(x, sizes, steps)
    pool = _AVERAGE_POOLS[x.dim()]
    if _fits_ceil_mode(pads, steps):
        y = pool(x, sizes, steps, [left for left, _ in pads], ceil_mode=True, count_include_pad=False)
    else:
        flat = [size for pair in reversed(pads) for size in pair]
        counted = pool(functional.pad(torch.ones(1, 1, *x.shape[2:]), flat), sizes, steps)
        y = pool(functional.pad(x, flat), sizes, steps) * (1.0 / counted)
    return _as_before(y, data_format)


def _max_pool(
    original: Original,
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: Any = None,
) -> Any:
    sizes, steps = _each(inputs, pool_size), _each(inputs, strides or pool_size)
    if padding != "same":
        return original(inputs, pool_size, strides, padding, data_format)
    x = _channels_first(inputs, data_format)
    pads = _same_padding(x, sizes, steps)
    if not _fits_ceil_mode(pads, steps):
        return original(inputs, pool_size, strides, padding, data_format)
    return _as_before(_MAX_POOLS[x.dim()](x, sizes, steps, [left for left, _ in pads], ceil_mode=True), data_format)


def _same_padding(x: torch.Tensor, sizes: list[int], steps: list[int]) -> list[tuple[int, int]]:
    """What TensorFlow adds left and right of each spatial dimension so that there are ceil(length / step) windows."""
    found = []
    for length, size, step in zip(x.shape[2:], sizes, steps, strict=True):
        total = max((-(-length // step) - 1) * step + size - length, 0)
        found.append((total // 2, total - total // 2))
    return found


def _fits_ceil_mode(pads: list[tuple[int, int]], steps: list[int]) -> bool:
    """Whether torch's `ceil_mode` makes the last window reach over the end by just the missing value."""
    return all(left == right or step > 1 for (left, right), step in zip(pads, steps, strict=True))


# --- Layers ---------------------------------------------------------------------------------------------------------


def _conv_transpose(original: Original, layer: Any, inputs: Any, **options: Any) -> Any:
    """The bias is added by the convolution, and crops are its padding as far as they are alike on both sides."""
    from keras.src.backend.common.backend_utils import compute_conv_transpose_output_crops_for_torch

    x = _channels_first(inputs, layer.data_format)
    crops = compute_conv_transpose_output_crops_for_torch(
        x.shape, tuple(layer.kernel.shape), layer.strides, layer.padding, layer.output_padding, layer.dilation_rate
    )
    if any(crop < 0 for pair in crops for crop in pair):
        return original(layer, inputs, **options)
    rank = x.dim()
    kernel = layer.kernel.value.permute(rank - 1, rank - 2, *range(rank - 2))
    bias = layer.bias.value if layer.use_bias else None
    paddings = [min(pair) for pair in crops]
    y = _CONVOLUTIONS_TRANSPOSED[rank](
        x, kernel, bias, stride=layer.strides, padding=paddings, dilation=layer.dilation_rate
    )
    for dim, ((left, right), padding) in enumerate(zip(crops, paddings, strict=True), start=2):
        if (left, right) != (padding, padding):
            y = y.narrow(dim, left - padding, y.shape[dim] - (left - padding) - (right - padding))
    y = _as_before(y, layer.data_format)
    return y if layer.activation is None else layer.activation(y)


def _up_sampling(original: Original, layer: Any, inputs: Any, **options: Any) -> Any:
    if layer.interpolation != "nearest":
        return original(layer, inputs, **options)
    x = _channels_first(inputs, layer.data_format)
    size = [length * factor for length, factor in zip(x.shape[2:], layer.size, strict=True)]
    return _as_before(functional.interpolate(x, size=size, mode="nearest"), layer.data_format)


def _prelu(original: Original, layer: Any, inputs: Any, **options: Any) -> Any:
    """One slope for each channel of the last dimension, or one for all."""
    slopes = layer.alpha.value
    if inputs.dim() < 2 or (slopes.dim() > 1 and any(size != 1 for size in slopes.shape[:-1])):
        return original(layer, inputs, **options)
    channels_first = inputs.movedim(-1, 1) if inputs.dim() > 2 else inputs
    y = functional.prelu(channels_first, slopes.reshape(-1))
    return y.movedim(1, -1) if inputs.dim() > 2 else y


def _embedding(original: Original, layer: Any, inputs: Any, **options: Any) -> Any:
    """Without Keras' reading of negative indices from the end."""
    if inputs.is_floating_point() or getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return original(layer, inputs, **options)
    return functional.embedding(inputs, layer.embeddings)


def _einsum_dense(original: Original, layer: Any, inputs: Any, **options: Any) -> Any:
    """A linear layer, where the equation only multiplies the last dimensions with the kernel's first ones."""
    left, right = layer.equation.replace("...", "").split("->")[0].split(",")
    result = layer.equation.replace("...", "").split("->")[1]
    shared = [letter for letter in left if letter in right]
    kept, made = left[: len(left) - len(shared)], right[len(shared) :]
    is_linear = left == kept + "".join(shared) and right == "".join(shared) + made and result == kept + made
    bias = None if layer.bias is None else layer.bias.value
    fits = bias is None or tuple(bias.shape) == tuple(layer.kernel.shape[len(shared) :])
    if not (is_linear and fits and shared) or getattr(layer, "quantization_mode", None):
        return original(layer, inputs, **options)
    kernel = layer.kernel.value if hasattr(layer.kernel, "value") else layer.kernel
    width = 1
    for size in kernel.shape[: len(shared)]:
        width *= size
    outer = inputs.shape[: inputs.dim() - len(shared)]
    y = functional.linear(
        inputs.reshape(*outer, width), kernel.reshape(width, -1).t(), None if bias is None else bias.reshape(-1)
    )
    y = y.reshape(*outer, *kernel.shape[len(shared) :])
    return y if layer.activation is None else layer.activation(y)


# --- Orders of dimensions -------------------------------------------------------------------------------------------


def _each(inputs: Any, value: Any) -> list[int]:
    """A size for each spatial dimension."""
    return [int(value)] * (inputs.dim() - 2) if isinstance(value, int) else [int(size) for size in value]


def _is_channels_last(data_format: str | None) -> bool:
    import keras

    return (data_format or keras.config.image_data_format()) == "channels_last"


def _channels_first(x: torch.Tensor, data_format: str | None) -> torch.Tensor:
    return x.movedim(-1, 1) if _is_channels_last(data_format) else x


def _as_before(x: torch.Tensor, data_format: str | None) -> torch.Tensor:
    return x.movedim(1, -1) if _is_channels_last(data_format) else x
