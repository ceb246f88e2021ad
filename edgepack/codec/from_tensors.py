"""Tensors that follow from ones that were written before: other layouts, other signs, scales times a scale."""

from __future__ import annotations

import numpy as np

from edgepack.codec.wire_ops import Copy, Product
from edgepack.core.errors import BundleError

_DAMAGED = "the file is damaged or was changed; get it again"


def permuted(one: Copy, data: bytes) -> bytes:
    """An earlier tensor's bytes, moved and flipped."""
    source = np.frombuffer(data, np.dtype(f"<u{one.element_bytes}")).reshape(one.shape)
    moved = np.ascontiguousarray(source.transpose(one.axes)).tobytes()
    return moved if one.flip == 0 else bytes(np.frombuffer(moved, np.uint8) ^ np.uint8(one.flip))


def products(one: Product, data: bytes) -> bytes:
    """Earlier values times the factor. Raises BundleError for values whose product isn't the same on every machine."""
    factor = np.frombuffer(one.factor, "<f4")[0]
    values = np.frombuffer(data, "<f4")
    with np.errstate(all="ignore"):
        results = (values * factor).astype("<f4")
    if not all(_are_normal(one) for one in (values, results, np.array([factor]))):
        raise BundleError(f"it multiplies what no scale can be; {_DAMAGED}")
    return bytes(results.tobytes())


def _are_normal(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bool:
    """Whether all are finite, and neither 0 nor subnormal: then a product is the same on every machine, in integers too."""
    magnitude = np.abs(values)
    return bool(np.all((magnitude >= np.finfo(np.float32).tiny) & (magnitude <= np.finfo(np.float32).max)))
