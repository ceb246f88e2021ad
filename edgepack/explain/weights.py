"""What the numbers of a tensor tell: how many are there, how many differ, how coarse they are, and what they cost once coded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepack.codec.coders import encode
from edgepack.codec.segments.tile import Found
from edgepack.codec.types import Profile, Segment
from edgepack.stages.divergence import sqnr_db

Values = NDArray[np.float64]
BINS = 41
_TYPES = {"i8": "<i1", "u8": "<u1", "i16": "<i2", "i32": "<i4", "f16": "<f2", "f32": "<f4", "bytes": "<i8"}
_FILLED_BYTES = 2  # a tensor of one byte repeated is an order to fill (edgepack.codec.wire_plan)
_SAME_DB = 200.0  # what `sqnr_db` says of equal tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A weight's grid: real = scale × (code − zero_point), one for all or one a slice of the tensor's channel axis."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How often values fall into equal bins from `low` to `high`. `unit` is 'weight' for real values, 'code' where no grid is known."""

    unit: str
    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A weight tensor read: its codes (floats for a float tensor) in the file's shape, and its real values where they are known."""

    codes: Values
    values: Values | None
    is_zero: NDArray[np.bool_]
    steps: NDArray[np.float64] | None  # the grid's step, shaped so that it meets each value


def read_weight(data: bytes, found: Found, steps: Steps | None) -> Weight:
    """The tensor of a file's bytes; without `steps` a quantized one has codes only, and its zero is the middle code."""
    codes = _codes(data[found.offset : found.offset + found.size_bytes], found)
    if found.kind in ("f16", "f32"):
        return Weight(codes=codes, values=codes, is_zero=codes == 0, steps=None)
    usual = {"u8": 128.0, "u4": 8.0}.get(found.kind, 0.0)
    if steps is None:
        return Weight(codes=codes, values=None, is_zero=codes == usual, steps=None)
    scale, zero = (_along(numbers, found) for numbers in (steps.scale, steps.zero_point))
    if scale is None or zero is None:
        return Weight(codes=codes, values=None, is_zero=codes == usual, steps=None)
    return Weight(codes=codes, values=scale * (codes - zero), is_zero=codes == zero, steps=scale)


def coded_bytes(data: bytes, found: Found, profile: Profile) -> int:
    """What a tensor costs on the wire, coded alone as `edgepack pack` codes a large one: payload and parameters."""
    content = data[found.offset : found.offset + found.size_bytes]
    if content.count(content[:1]) == len(content):
        return _FILLED_BYTES
    segment = Segment(
        size_bytes=found.size_bytes,
        kind=found.kind,
        shape=() if found.kind == "bytes" else found.shape,
        channel_axis=found.channel_axis,
        name=found.name,
    )
    coded = encode(content, segment, profile=profile)
    return len(coded.payload) + len(coded.params)


def coded_rest_bytes(data: bytes, name: str, profile: Profile) -> int:
    """What bytes that are no tensor cost on the wire."""
    coded = encode(data, Segment(size_bytes=len(data), name=name), profile=profile)
    return len(coded.payload) + len(coded.params)


def rounding_sqnr_db(weights: Iterable[Weight]) -> float | None:
    """The power of the weights over that of the noise that rounding to their steps makes (step² / 12 each), in dB; None where no step is known.

    Widrow, Kollar: Quantization Noise, 2008. What pruning or training changed is not in it.
    """
    signal = noise = 0.0
    for weight in weights:
        if weight.values is None or weight.steps is None:
            return None
        signal += float(np.square(weight.values).sum())
        noise += float(np.broadcast_to(np.square(weight.steps) / 12, weight.values.shape).sum())
    return round(10 * float(np.log10(signal / noise)), 2) if signal > 0 and noise > 0 else None


def change_sqnr_db(before: Iterable[Weight], after: Iterable[Weight]) -> float | None:
    """The original weights' power over that of all that changed in them, in dB (200: nothing did); None where they can't be laid beside each other."""
    olds, news = [one.values for one in before], [one.values for one in after]
    if len(olds) != len(news) or not olds:
        return None
    pairs = list(zip(olds, news, strict=True))
    if any(old is None or new is None or old.squeeze().shape != new.squeeze().shape for old, new in pairs):
        return None
    old, new = (np.concatenate([one.ravel() for one in side if one is not None]) for side in (olds, news))
    return min(_SAME_DB, round(sqnr_db(old, new), 2))


def histogram(weights: Iterable[Weight], *, limit: float | None = None) -> Histogram | None:
    """Of all weights of a layer, symmetric around zero; `limit` is the largest value shown (default: the largest there is)."""
    given = list(weights)
    if not given:
        return None
    real = [one.values for one in given if one.values is not None]
    is_real = len(real) == len(given)
    values = np.concatenate([one.ravel() for one in (real if is_real else [one.codes for one in given])])
    values = values[np.isfinite(values)]
    high = limit or float(np.abs(values).max(initial=0.0)) or 1.0
    counts, _ = np.histogram(np.clip(values, -high, high), bins=BINS, range=(-high, high))
    return Histogram(unit="weight" if is_real else "code", low=-high, high=high, counts=tuple(counts.tolist()))


def _codes(data: bytes, found: Found) -> Values:
    if found.kind in ("i4", "u4"):
        raw = np.frombuffer(data, np.uint8)
        codes = np.stack([raw & 15, raw >> 4], axis=1).reshape(-1)[: int(np.prod(found.shape))].astype(np.float64)
        return (np.where(codes > 7, codes - 16, codes) if found.kind == "i4" else codes).reshape(found.shape)
    return np.frombuffer(data, _TYPES[found.kind]).astype(np.float64).reshape(found.shape)


def _along(numbers: tuple[float, ...] | tuple[int, ...], found: Found) -> NDArray[np.float64] | None:
    """One number for all, or one for each slice of the channel axis; None where they fit neither."""
    array = np.array(numbers, np.float64)
    if array.size == 1:
        return array.reshape((1,) * len(found.shape))
    axis = found.channel_axis
    if axis is None or axis >= len(found.shape) or found.shape[axis] != array.size:
        return None
    return array.reshape([-1 if at == axis else 1 for at in range(len(found.shape))])
