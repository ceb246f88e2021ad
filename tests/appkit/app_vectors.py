"""Test vectors that every language of the app kits shares: written by the Python reference, committed, checked on each side.

`python tests/appkit/app_vectors.py` writes them anew; a test says whether the committed ones are what the reference gives.
Arrays are base64 of their bytes, little-endian, row after row.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.agent.postprocess import postprocess
from edgepack.agent.preprocess import preprocess
from edgepack.core.types import QuantParams
from edgepack.runtimes.grid import quantize

FOLDER = Path(__file__).parent / "vectors"
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
# Up, down, one side only, far up, far down, more down than across, to one pixel, from one pixel.
SIZES = ((9, 7, 16, 21), (23, 17, 8, 6), (12, 10, 12, 5), (12, 10, 5, 10), (4, 3, 33, 20), (31, 29, 3, 2))
SIZES += ((40, 6, 5, 8), (13, 11, 1, 1), (1, 1, 6, 4))


def encoded(array: Any) -> dict[str, Any]:
    """An array as JSON."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def decoded(value: dict[str, Any]) -> Any:
    """The array of `encoded`."""
    flat = np.frombuffer(base64.b64decode(value["data"]), np.dtype(value["dtype"]).newbyteorder("<"))
    return flat.reshape(value["shape"])


def image(height: int, width: int, channels: int, kind: str = "noise") -> Any:
    """Noise, an edge pattern of 0 and 255 (where filters overshoot), or a ramp; the same at each call."""
    rng = np.random.default_rng([height, width, channels])
    if kind == "edges":
        return (rng.integers(0, 2, (height, width, channels)) * 255).astype(np.uint8)
    if kind == "ramp":
        ramp = np.add.outer(np.add.outer(np.arange(height) * 5, np.arange(width) * 3), np.arange(channels) * 70)
        return ramp.astype(np.uint8)
    return rng.integers(0, 256, (height, width, channels)).astype(np.uint8)


def preprocess_cases() -> Iterator[dict[str, Any]]:
    """Raw samples, steps and what they give; with `grid` also the codes."""
    for index, (height, width, out_height, out_width) in enumerate(SIZES):
        for name in FILTERS:
            step = {"op": "resize", "size": [out_height, out_width], "filter": name}
            sample = image(height, width, (1, 3)[index % 2], ("noise", "edges", "ramp")[index % 3])
            yield _case(f"{name} {height}x{width} to {out_height}x{out_width}", sample, [step])
    rgb = image(19, 26, 3)
    yield _case("grayscale", rgb, [{"op": "grayscale"}])
    yield _case("grayscale of gray", image(5, 6, 1), [{"op": "grayscale"}])
    for fraction in (0.875, 0.5, 0.7, 0.05, 1.0):  # 0.5 of 19 is 9.5, of 5 is 2.5: halves go to the even side
        yield _case(f"center_crop fraction {fraction}", rgb, [{"op": "center_crop", "fraction": fraction}])
    yield _case("center_crop half of 5", image(5, 8, 1), [{"op": "center_crop", "fraction": 0.5}])
    yield _case("center_crop half of 7", image(8, 7, 1), [{"op": "center_crop", "fraction": 0.5}])
    yield _case("center_crop size", rgb, [{"op": "center_crop", "size": [10, 13]}])
    for shape in ((20, 31), (31, 20), (16, 16)):
        steps = [{"op": "resize", "size": 11, "mode": "short_side", "filter": "bicubic"}]
        yield _case(f"short_side of {shape[0]}x{shape[1]}", image(*shape, 3), steps)
    yield from _whole_pipelines(rgb)


def _whole_pipelines(rgb: Any) -> Iterator[dict[str, Any]]:
    imagenet = {"op": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    first, last = {"op": "layout", "to": "CHW"}, {"op": "layout", "to": "HWC"}
    by_255 = {"op": "to_float", "divide": 255.0}
    resize = {"op": "resize", "size": [12, 14], "filter": "bicubic"}
    crop = {"op": "center_crop", "fraction": 0.875}
    int8 = QuantParams(scale=(float(np.float32(0.0187069308)),), zero_point=(-14,), dtype="int8")
    uint8 = QuantParams(scale=(float(np.float32(1 / 3)),), zero_point=(128,), dtype="uint8")
    int16 = QuantParams(scale=(float(np.float32(0.00030517578)),), zero_point=(0,), dtype="int16")
    halves = QuantParams(scale=(2.0,), zero_point=(-128,), dtype="int8")  # every odd pixel lies between two codes
    yield _case("resnet", rgb, [by_255, imagenet, first], int8)
    yield _case("efficientnet", rgb, [crop, resize, {"op": "normalize", "mean": 127.0, "std": 128.0}, first], uint8)
    yield _case("channels last", rgb, [resize, by_255, {"op": "normalize", "mean": 0.5, "std": 0.5}, last], int16)
    yield _case("gray", rgb, [{"op": "grayscale"}, resize, by_255, first], int8)
    yield _case("halves", image(16, 16, 1), [{"op": "to_float"}], halves)
    values = (np.random.default_rng(3).standard_normal((49, 10, 1)) * 40).astype(np.float32)
    yield _case("values", values, [{"op": "to_float"}], int8)
    yield _case("values normalized", values, [{"op": "normalize", "mean": 1.5, "std": 7.0}], int16)
    far = np.array([0.0, -0.0, 1e30, -1e30, np.inf, -np.inf, 0.5, -0.5, 1.5, -1.5, 2.5e-8], np.float32)
    yield _case("far away", far, [], QuantParams(scale=(1.0,), zero_point=(3,), dtype="int8"))


def _case(name: str, sample: Any, steps: list[dict[str, Any]], grid: QuantParams | None = None) -> dict[str, Any]:
    output = preprocess([sample], steps)[0]
    case = {"name": name, "input": encoded(sample), "steps": steps, "output": encoded(output)}
    if grid is not None:
        case["grid"] = {"dtype": grid.dtype, "scale": grid.scale[0], "zero_point": grid.zero_point[0]}
        case["codes"] = encoded(quantize(output, grid))
    return case


def postprocess_cases() -> Iterator[dict[str, Any]]:
    """A model's output, its grid, the steps and the answer: values, or [index, label, score] where the last step is top_k."""
    rng = np.random.default_rng(21)
    labels = [f"class {index}" for index in range(7)]
    for dtype, scale, zero_point in (
        ("int8", 0.0426442772, -29),
        ("uint8", 0.00390625, 0),
        ("int16", 0.00030517578, 7),
    ):
        limits = np.iinfo(dtype)
        codes = rng.integers(limits.min, limits.max + 1, 40).astype(dtype)
        grid = {"scale": [float(np.float32(scale))], "zero_point": [zero_point], "axis": None}
        for steps in ([], [{"op": "softmax"}], [{"op": "sigmoid"}], [{"op": "softmax"}, {"op": "top_k", "k": 5}]):
            yield _answer(f"{dtype} {' '.join(step['op'] for step in steps)}", codes, steps, grid=grid)
    ends = np.array([0.0, -0.0, 1.0, -1.0, 88.5, -88.5, 710.0, -710.0, 3e38, -3e38, 1e-30, 36.7, -36.7], np.float32)
    for op in ("softmax", "sigmoid"):
        yield _answer(f"{op} of the ends", ends, [{"op": op}])
        for width in (0.1, 3.0, 30.0, 300.0):
            values = (rng.standard_normal(60) * width).astype(np.float32)
            yield _answer(f"{op} of width {width:g}", values, [{"op": op}])
    ties = np.array([0.25, 0.5, 0.5, -1.0, 0.5, 0.0, 0.25], np.float32)
    for step in (
        {"op": "top_k", "k": 4},
        {"op": "top_k", "k": 9, "threshold": 0.25},
        {"op": "top_k", "k": 2, "threshold": 0.6},
    ):
        yield _answer(f"ties {step}", ties, [step], labels=labels)


def _answer(
    name: str,
    values: Any,
    steps: list[dict[str, Any]],
    *,
    grid: dict[str, Any] | None = None,
    labels: list[str] | None = None,
) -> dict[str, Any]:
    steps = [{"op": "dequantize"}, *steps]
    answer = postprocess(values[None], steps, quantization=grid, labels=labels)[0]
    told = encoded(answer) if isinstance(answer, np.ndarray) else [list(one) for one in answer]
    return {"name": name, "input": encoded(values), "grid": grid, "labels": labels, "steps": steps, "answer": told}


def files() -> dict[str, str]:
    """Every vector file's text, by name."""
    cases = {"preprocess.json": list(preprocess_cases()), "postprocess.json": list(postprocess_cases())}
    return {
        name: "[\n" + ",\n".join(json.dumps(case, sort_keys=True) for case in content) + "\n]\n"
        for name, content in cases.items()
    }


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
