"""The C steps through ctypes, driven by the same tables of steps as the Python reference."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FILTERS = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos": 3}
SHORT = {"int8": "i8", "uint8": "u8", "int16": "i16"}


class Crop(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("top", "left", "height", "width")]  # ctypes reads a list


class Score(ctypes.Structure):
    _fields_ = [("index", ctypes.c_size_t), ("score", ctypes.c_float)]


class NativeError(Exception):
    """A step said no; the argument is its code."""


class NativeSteps:
    """Each method is one step on NumPy arrays."""

    def __init__(self, library: Path) -> None:
        self._c = ctypes.CDLL(str(library))
        self._c.epp_top_k.restype = ctypes.c_size_t

    def preprocess(self, sample: Any, steps: Sequence[Mapping[str, Any]]) -> Any:
        """One sample through all steps, as `edgepack.agent.preprocess.preprocess` takes it."""
        values = np.ascontiguousarray(sample)
        for step in steps:
            options = {name: value for name, value in step.items() if name != "op"}
            values = np.ascontiguousarray(getattr(self, step["op"])(values, **options))
        return values

    def postprocess(self, output: Any, steps: Sequence[Mapping[str, Any]], grid: Mapping[str, Any] | None) -> Any:
        """One sample's output through all steps; top_k gives pairs of index and score."""
        values = np.ascontiguousarray(output)
        for step in steps:
            options = {name: value for name, value in step.items() if name != "op"}
            if step["op"] == "dequantize":
                values = values if grid is None else self.dequantize(values, grid["scale"][0], grid["zero_point"][0])
            else:
                values = getattr(self, step["op"])(values, **options)
        return values

    def grayscale(self, image: Any) -> Any:
        if image.shape[2] == 1:
            return image
        gray = np.empty((*image.shape[:2], 1), np.uint8)
        self._c.epp_grayscale(_at(image), ctypes.c_size_t(gray.size), _at(gray))
        return gray

    def center_crop(self, image: Any, fraction: float | None = None, size: Any = None) -> Any:
        height, width, channels = image.shape
        crop = Crop()
        if fraction is not None:
            status = self._c.epp_center_square(height, width, ctypes.c_double(fraction), ctypes.byref(crop))
        else:
            status = self._c.epp_center_size(height, width, *_pair(size), ctypes.byref(crop))
        _check(status)
        out = np.empty((crop.height, crop.width, channels), np.uint8)
        _check(self._c.epp_cut(_at(image), height, width, channels, crop, _at(out)))
        return out

    def resize(self, image: Any, size: Any, filter: str = "bilinear", mode: str = "stretch") -> Any:  # noqa: A002
        height, width, channels = image.shape
        out_height, out_width = (ctypes.c_int(side) for side in _pair(size))
        if mode == "short_side":
            places = ctypes.byref(out_height), ctypes.byref(out_width)
            _check(self._c.epp_short_side(height, width, size, *places))
        out = np.empty((out_height.value, out_width.value, channels), np.uint8)
        _check(
            self._c.epp_resize(_at(image), height, width, channels, FILTERS[filter], out_height, out_width, _at(out))
        )
        return out

    def to_float(self, values: Any, divide: float = 1.0) -> Any:
        floats = self._floats(values)
        self._c.epp_divide(_at(floats), ctypes.c_size_t(floats.size), ctypes.c_float(divide))
        return floats

    def normalize(self, values: Any, mean: Any, std: Any) -> Any:
        floats = self._floats(values)
        channels = floats.shape[-1]
        numbers = [np.broadcast_to(np.asarray(one, np.float32), channels).copy() for one in (mean, std)]
        sizes = ctypes.c_size_t(floats.size), ctypes.c_size_t(channels)
        self._c.epp_normalize(_at(floats), *sizes, _at(numbers[0]), _at(numbers[1]))
        return floats

    def layout(self, values: Any, to: str) -> Any:
        if to == "HWC":
            return values
        assert values.dtype == np.float32
        height, width, channels = values.shape
        out = np.empty((channels, height, width), np.float32)
        sizes = (ctypes.c_size_t(side) for side in (height, width, channels))
        self._c.epp_channels_first(_at(values), *sizes, _at(out))
        return out

    def quantize(self, values: Any, dtype: str, scale: float, zero_point: int) -> Any:
        codes = np.empty(values.shape, dtype)
        function = getattr(self._c, f"epp_quantize_{SHORT[dtype]}")
        grid = ctypes.c_float(scale), ctypes.c_int32(zero_point)
        _check(function(_at(values), ctypes.c_size_t(values.size), *grid, _at(codes)))
        return codes

    def dequantize(self, codes: Any, scale: float, zero_point: int) -> Any:
        values = np.empty(codes.shape, np.float32)
        function = getattr(self._c, f"epp_dequantize_{SHORT[codes.dtype.name]}")
        grid = ctypes.c_float(scale), ctypes.c_int32(zero_point)
        function(_at(codes), ctypes.c_size_t(codes.size), *grid, _at(values))
        return values

    def softmax(self, values: Any) -> Any:
        out = np.array(values, np.float32)
        self._c.epp_softmax(_at(out), ctypes.c_size_t(out.size))
        return out

    def sigmoid(self, values: Any) -> Any:
        out = np.array(values, np.float32)
        self._c.epp_sigmoid(_at(out), ctypes.c_size_t(out.size))
        return out

    def top_k(self, scores: Any, k: int, threshold: float = 0.0) -> list[tuple[int, float]]:
        best = (Score * max(k, 1))()
        sizes = ctypes.c_size_t(scores.size), ctypes.c_size_t(k)
        found = self._c.epp_top_k(_at(scores), *sizes, ctypes.c_double(threshold), best)
        return [(one.index, one.score) for one in best[:found]]

    def sha256(self, data: bytes) -> str:
        digest = ctypes.create_string_buffer(65)
        self._c.epp_sha256_hex(data, ctypes.c_size_t(len(data)), digest)
        return digest.value.decode()

    def _floats(self, values: Any) -> Any:
        if values.dtype != np.uint8:
            return np.array(values, np.float32)
        floats = np.empty(values.shape, np.float32)
        self._c.epp_to_values(_at(values), ctypes.c_size_t(values.size), _at(floats))
        return floats


def _at(array: Any) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _check(status: int) -> None:
    if status != 0:
        raise NativeError(status)
