"""The preprocessing steps in the order in which the C++ code takes them."""

from __future__ import annotations

from typing import Any

from edgepack.appkit.steps import AppInput

_ON_PIXELS = ("grayscale", "center_crop", "resize")


def cpp_steps(taken: AppInput) -> list[dict[str, Any]]:
    """Steps on pixels, the check of their size, then steps on values; `layout` as what is left to be turned.

    A crop may be declared after to_float or normalize; they work on each pixel by itself, so cropping before gives the same.
    """
    steps = [dict(step) for step in taken.steps]
    on_values = [_expanded(step) for step in steps if step["op"] == "normalize" or _divides(step)]
    if taken.takes == "values":
        return [*on_values, *([{"op": "channels_last"}] if taken.turned else [])]
    on_pixels = [step for step in steps if step["op"] in _ON_PIXELS]
    first = any(step["op"] == "layout" and step["to"] == "CHW" for step in steps) and not taken.turned
    turn = [{"op": "channels_first"}] if first and heights_widths_channels(taken)[2] > 1 else []
    return [*on_pixels, {"op": "check_size"}, {"op": "to_values"}, *on_values, *turn]


def heights_widths_channels(taken: AppInput) -> tuple[int, ...]:
    """The input's size as (height, width, channels), whatever its layout; its plain shape where it is no image."""
    shape = taken.shape
    if len(shape) != 3:
        return shape
    declared_first = any(step["op"] == "layout" and step["to"] == "CHW" for step in taken.steps)
    first = taken.tensor.layout == "NCHW" or (taken.tensor.layout == "any" and declared_first)
    return (shape[1], shape[2], shape[0]) if first else shape


def _divides(step: dict[str, Any]) -> bool:
    return bool(step["op"] == "to_float" and step["divide"] != 1.0)


def _expanded(step: dict[str, Any]) -> dict[str, Any]:
    """`normalize` with as many means as deviations."""
    if step["op"] != "normalize":
        return step
    length = max(len(step["mean"]), len(step["std"]))
    return {**step, **{name: step[name] * (length if len(step[name]) == 1 else 1) for name in ("mean", "std")}}
