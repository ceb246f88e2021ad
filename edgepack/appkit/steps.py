"""What an app hands to a model and what it gets: the facts that every kit writes code for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgepack.bundle import Bundle
from edgepack.bundle.golden import read_raw
from edgepack.bundle.manifest import Variant
from edgepack.bundle.parts import Tensor
from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Array

_FOR_IMAGES = ("grayscale", "center_crop", "resize", "layout")
_DEFAULTS: dict[str, dict[str, Any]] = {
    "resize": {"filter": "bilinear", "mode": "stretch"},
    "to_float": {"divide": 1.0},
}
_CODES = ("int8", "uint8", "int16")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppInput:
    """The one input of a model as an app sees it.

    `takes` says what a raw sample is: an image (uint8, height × width × channels) or values (float32, of `raw_shape`). `channels` are the
    numbers of channels that an image may have. `steps` are the bundle's preprocessing steps with all options written out. After
    them, `turned` says that the model wants the channels last where the steps put them first. `shape` is the tensor's, without the
    batch dimension.
    """

    takes: Literal["image", "values"]
    channels: tuple[int, ...]
    steps: tuple[Mapping[str, Any], ...]
    turned: bool
    raw_shape: tuple[int, ...]
    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape[1:])


def app_input(bundle: Bundle, variant: Variant) -> AppInput:
    """The input of a variant. Raises UnsupportedError for several inputs, and for a type or grid that no kit has code for."""
    where = f"{bundle.path}: {variant.target}"
    if len(variant.inputs) != 1:
        named = ", ".join(f"'{tensor.name}'" for tensor in variant.inputs)
        raise UnsupportedError(f"{where}: app kits have code for models with one input, this one has {named}")
    tensor = variant.inputs[0]
    check_tensor(where, tensor)
    steps = tuple(dict(step) for step in bundle.manifest.preprocess)
    raw = read_raw(bundle, variant) if variant.golden is not None else None
    is_image = any(step["op"] in _FOR_IMAGES for step in steps) or _is_picture(raw)
    if is_image and len(tensor.shape) != 4:
        raise UnsupportedError(
            f"{where}: takes images, but its input has shape {list(tensor.shape)}, not four dimensions"
        )
    channels = _channels(steps, tensor) if is_image else ()
    if not set(channels) <= {1, 3}:
        raise UnsupportedError(f"{where}: takes images of {channels[0]} channels; app kits have code for 1 and 3")
    return AppInput(
        takes="image" if is_image else "values",
        channels=channels,
        steps=tuple(_written_out(step) for step in steps),
        turned=_is_turned(steps, tensor, raw),
        raw_shape=tuple((tensor.shape if raw is None else raw.shape)[1:]),
        tensor=tensor,
    )


def check_tensor(where: str, tensor: Tensor) -> None:
    """Raise UnsupportedError unless a tensor has float32 values, or 8- or 16-bit codes on one grid."""
    grid = tensor.quantization
    if grid is None and tensor.dtype != "float32":
        raise UnsupportedError(
            f"{where}: '{tensor.name}' is {tensor.dtype} without a grid; app kits have code for float32 and for quantized tensors"
        )
    if grid is not None and (tensor.dtype not in _CODES or len(grid.scale) != 1):
        raise UnsupportedError(
            f"{where}: '{tensor.name}' is {tensor.dtype} with {len(grid.scale)} scales; app kits have code for "
            f"{', '.join(_CODES)} with one"
        )


def _is_picture(raw: Array | None) -> bool:
    """Whether raw samples are images by themselves: uint8, (N, H, W) or (N, H, W, 1 or 3)."""
    return raw is not None and raw.dtype == "uint8" and (raw.ndim == 3 or (raw.ndim == 4 and raw.shape[3] in (1, 3)))


def _puts_channels_first(steps: tuple[Mapping[str, Any], ...]) -> bool:
    return bool(steps) and steps[-1]["op"] == "layout" and steps[-1]["to"] == "CHW"


def _is_turned(steps: tuple[Mapping[str, Any], ...], tensor: Tensor, raw: Array | None) -> bool:
    if tensor.layout != "NHWC":
        return False
    if raw is None or any(step["op"] in _FOR_IMAGES for step in steps):
        return _puts_channels_first(steps)
    return raw.ndim == 4 and raw.shape[1:] != tuple(
        tensor.shape[1:]
    )  # the samples themselves have their channels first


def _final_channels(steps: tuple[Mapping[str, Any], ...], tensor: Tensor) -> int:
    first = tensor.layout == "NCHW" or (tensor.layout == "any" and _puts_channels_first(steps))
    return int(tensor.shape[1 if first else 3])


def _channels(steps: tuple[Mapping[str, Any], ...], tensor: Tensor) -> tuple[int, ...]:
    return (1, 3) if any(step["op"] == "grayscale" for step in steps) else (_final_channels(steps, tensor),)


def _written_out(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step with its defaults, sizes as [height, width], and mean and std as lists."""
    options = {**_DEFAULTS.get(step["op"], {}), **step}
    if isinstance(options.get("size"), int) and options.get("mode") != "short_side":
        options["size"] = [options["size"], options["size"]]
    for name in ("mean", "std"):
        if name in options:
            options[name] = _as_list(options[name])
    return options


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
