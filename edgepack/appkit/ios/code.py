"""A bundle's steps as calls in Swift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgepack.appkit.answers import AppOutput
from edgepack.appkit.steps import AppInput
from edgepack.bundle.parts import Tensor

# What ONNX Runtime's Swift package calls these types, and what Swift does.
ELEMENT_TYPES = {"int8": "int8", "uint8": "uInt8", "float32": "float"}
SWIFT_TYPES = {"int8": "Int8", "uint8": "UInt8", "float32": "Float"}
_CHANNELS_FIRST = "channelsFirst()"


def pipeline(taken: AppInput) -> list[str]:
    """Calls of Sample, one after the other, from the raw sample to the data that the model takes."""
    calls = [call for step in taken.steps for call in calls_of(step)]
    if taken.turned and calls and calls[-1] == _CHANNELS_FIRST:
        calls.pop()  # the model wants them last, where they are
    elif taken.turned:
        calls.append("channelsLast()")
    return [*calls, _encoding(taken.tensor)]


def answer_calls(given: AppOutput) -> list[str]:
    """Statements that make `scores` of the output's `values`."""
    tensor, grid = given.tensor, given.tensor.quantization
    first = "let scores0 = values" if tensor.dtype == "float32" else "let scores0 = values.map { Float($0) }"
    if grid is not None and "dequantize" in given.score_steps:
        first = f"let scores0 = Answers.dequantize(values, scale: {grid.scale[0]!r}, zeroPoint: {grid.zero_point[0]})"
    calls = [first]
    for name in given.score_steps:
        if name == "dequantize":
            continue
        last = f"scores{len(calls) - 1}"
        call = f"softmax({last}, length: {given.row_length})" if name == "softmax" else f"sigmoid({last})"
        calls.append(f"let scores{len(calls)} = Answers.{call}")
    calls[-1] = calls[-1].replace(f"let scores{len(calls) - 1} =", "let scores =")
    return calls


def calls_of(step: Mapping[str, Any]) -> Iterator[str]:
    """The call for one step of a manifest; none where it leaves a sample as it is."""
    op = step["op"]
    if op == "grayscale":
        yield "grayscale()"
    elif op == "center_crop":
        yield (
            f"centerCrop(fraction: {step['fraction']!r})"
            if "fraction" in step
            else f"centerCrop({_size(step['size'])})"
        )
    elif op == "resize":
        name = f"EPP_{step['filter'].upper()}"
        is_short = step["mode"] == "short_side"
        yield (
            f"resizeShortSide({step['size']}, filter: {name})"
            if is_short
            else f"resize({_size(step['size'])}, filter: {name})"
        )
    elif op == "to_float":
        yield f"toFloat(divide: {float(step['divide'])!r})"
    elif op == "normalize":
        yield f"normalize(mean: {_doubles(step['mean'])}, std: {_doubles(step['std'])})"
    elif op == "layout":
        if step["to"] == "CHW":
            yield _CHANNELS_FIRST
    else:  # the manifest's steps were validated when it was built
        raise AssertionError(op)


def _size(size: list[int]) -> str:
    return f"height: {size[0]}, width: {size[1]}"


def _doubles(values: list[float]) -> str:
    return f"[{', '.join(repr(float(value)) for value in values)}]"


def _encoding(tensor: Tensor) -> str:
    grid = tensor.quantization
    if grid is None:
        return "floatData()"
    return f"{tensor.dtype}Data(scale: {grid.scale[0]!r}, zeroPoint: {grid.zero_point[0]})"


def swift_text(text: str) -> str:
    """A string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(one if one.isprintable() else f"\\u{{{ord(one):x}}}" for one in escaped) + '"'
