"""A bundle's steps as calls in Java."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgepack.appkit.answers import AppOutput
from edgepack.appkit.steps import AppInput
from edgepack.bundle.parts import Tensor

_CHANNELS_FIRST = "channelsFirst()"
_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
_OUTPUT_CODES = {
    "int8": "output.get(i)",
    "uint8": "output.get(i) & 0xFF",
    "int16": "output.getShort(2 * i)",
    "float32": "output.getFloat(4 * i)",
}


def pipeline(taken: AppInput) -> list[str]:
    """Calls of Preprocess, one after the other, from the raw sample to the buffer that the model takes."""
    calls = [call for step in taken.steps for call in calls_of(step)]
    if taken.turned and calls and calls[-1] == _CHANNELS_FIRST:
        calls.pop()  # the model wants them last, where they are
    elif taken.turned:
        calls.append("channelsLast()")
    return [*calls, encoding(taken.tensor)]


def answer_calls(given: AppOutput) -> list[str]:
    """What is done with `scores`, each giving them anew."""
    known = {"softmax": f"Postprocess.softmax(scores, {given.row_length})", "sigmoid": "Postprocess.sigmoid(scores)"}
    return [known[name] for name in given.score_steps if name != "dequantize"]


def output_code(dtype: str) -> str:
    """The i-th value in the buffer `output`."""
    return _OUTPUT_CODES[dtype]


def calls_of(step: Mapping[str, Any]) -> Iterator[str]:
    """The call for one step of a manifest; none where it leaves a sample as it is."""
    op = step["op"]
    if op == "grayscale":
        yield "grayscale()"
    elif op == "center_crop":
        yield f"centerCrop({step['fraction']!r})" if "fraction" in step else f"centerCrop({_size(step['size'])})"
    elif op == "resize":
        yield _resize(step)
    elif op == "to_float":
        yield f"toFloat({float(step.get('divide', 1.0))!r})"
    elif op == "normalize":
        yield f"normalize({_doubles(step['mean'])}, {_doubles(step['std'])})"
    elif op == "layout":
        if step["to"] == "CHW":
            yield _CHANNELS_FIRST
    else:  # the manifest's steps were validated when it was built
        raise AssertionError(op)


def _resize(step: Mapping[str, Any]) -> str:
    name = f"Resize.Filter.{step.get('filter', 'bilinear').upper()}"
    if step.get("mode") == "short_side":
        return f"resizeShortSide({step['size']}, {name})"
    return f"resize({_size(step['size'])}, {name})"


def _size(size: int | list[int]) -> str:
    height, width = size if isinstance(size, list) else (size, size)
    return f"{height}, {width}"


def _doubles(values: float | list[float]) -> str:
    listed = values if isinstance(values, list) else [values]
    return f"new double[] {{{', '.join(repr(float(value)) for value in listed)}}}"


def encoding(tensor: Tensor) -> str:
    """The call that makes the model's input of the preprocessed values."""
    grid = tensor.quantization
    if grid is None:
        return "toBuffer()"
    scale, zero_point = grid.scale[0], grid.zero_point[0]
    if tensor.dtype == "int16":
        return f"quantizeToShorts({scale!r}, {zero_point})"
    lowest, highest = _LIMITS[tensor.dtype]
    return f"quantize({scale!r}, {zero_point}, {lowest}, {highest})"
