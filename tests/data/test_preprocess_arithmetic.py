"""The arithmetic of docs/bundle-format.md, written down once more without Pillow: a port to any language has these bytes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.agent.preprocess import Grayscale, Resize


def bilinear(x: float) -> float:
    return 1.0 - abs(x) if abs(x) < 1.0 else 0.0


def bicubic(x: float) -> float:
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2.0 else 0.0


def sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(x * math.pi) / (x * math.pi)


def lanczos(x: float) -> float:
    return sinc(x) * sinc(x / 3) if -3.0 <= x < 3.0 else 0.0


FILTERS: dict[str, tuple[int, Callable[[float], float]]] = {
    "bilinear": (1, bilinear),
    "bicubic": (2, bicubic),
    "lanczos": (3, lanczos),
}


def along_last_axis(values: np.ndarray, m: int, name: str) -> np.ndarray:
    n = values.shape[-1]
    if n == m:
        return values
    reach, function = FILTERS[name]
    scale = n / m
    widen = max(scale, 1.0)
    support, narrow = reach * widen, 1.0 / widen
    out = np.empty((*values.shape[:-1], m), np.uint8)
    for i in range(m):
        center = (i + 0.5) * scale
        first, end = max(0, int(center - support + 0.5)), min(n, int(center + support + 0.5))
        weights = [function((j - center + 0.5) * narrow) for j in range(first, end)]
        total = 0.0
        for weight in weights:
            total += weight
        shares = [weight / total for weight in weights]
        k = np.array([int(one * (1 << 22) + (0.5 if one >= 0 else -0.5)) for one in shares], np.int64)
        sums = (1 << 21) + (values[..., first:end].astype(np.int64) * k).sum(axis=-1)
        out[..., i] = np.clip(sums >> 22, 0, 255)
    return out


def nearest(n: int, m: int) -> list[int]:
    position, found = 0.5 * (n / m), []
    for _ in range(m):
        found.append(int(position))
        position += n / m
    return found


SIZES = st.tuples(*[st.integers(1, 60)] * 4)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", sorted(FILTERS))
def test_resizing_has_the_bytes_of_the_pages_arithmetic(name: str, sizes: tuple[int, ...], seed: int) -> None:
    height, width, to_height, to_width = sizes
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)

    across = along_last_axis(image.transpose(2, 0, 1), to_width, name)
    down = along_last_axis(across.transpose(0, 2, 1), to_height, name)

    assert np.array_equal(down.transpose(2, 1, 0), Resize(size=[to_height, to_width], filter=name)(image))


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 2**32 - 1))
def test_the_nearest_pixels_and_gray_are_those_of_the_page(sizes: tuple[int, ...], seed: int) -> None:
    height, width, to_height, to_width = sizes
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)

    chosen = image[nearest(height, to_height)][:, nearest(width, to_width)]
    gray = (image.astype(np.int64) @ np.array([19595, 38470, 7471]) + 32768) >> 16

    assert np.array_equal(chosen, Resize(size=[to_height, to_width], filter="nearest")(image))
    assert np.array_equal(gray, Grayscale()(image)[:, :, 0])
