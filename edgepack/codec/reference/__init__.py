"""The decoder in plain Python: what the C sources do, to read and to check them by. About 0.1 MB/s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgepack.codec.reference.arith import Damaged, Params
from edgepack.codec.reference.data import decode_bytes
from edgepack.codec.reference.rans import decode_rans
from edgepack.codec.reference.weights import decode_adaptive, decode_mix
from edgepack.codec.reference.wide import decode_wide
from edgepack.codec.types import BITS, Coded, Segment
from edgepack.core.errors import BundleError

__all__ = ["decode"]

_Decoder = Callable[[Params, bytes, Segment, bytes | None], bytes]


def _raw(params: Params, payload: bytes, segment: Segment, base: bytes | None) -> bytes:
    if len(payload) != segment.size_bytes:
        raise Damaged
    return payload


_DECODERS: Final[dict[int, _Decoder]] = {
    0: _raw,
    1: decode_rans,
    2: decode_adaptive,
    3: decode_mix,
    4: decode_wide,
    5: decode_bytes,
}
_BYTE_KINDS = ("i8", "u8", "i4", "u4")


def decode(coded: Coded, segment: Segment, *, base: bytes | None = None) -> bytes:
    """The segment's bytes, as `edgepack.codec.coders.decode` gives them. Raises BundleError when the coded form is damaged."""
    name = segment.name or "a segment"
    if not _fits(coded.coder, segment):
        raise BundleError(f"{name}: they were written by a newer edgepack (unknown coder)")
    try:
        if segment.size_bytes == 0:
            return _raw(Params(coded.params), coded.payload, segment, None)
        if base is not None and segment.kind != "bytes" and len(base) < segment.size_bytes:
            raise Damaged
        return _DECODERS[coded.coder](Params(coded.params), coded.payload, segment, base)
    except Damaged as exc:
        raise BundleError(f"{name}: the coded data are damaged, or belong to another base") from exc


def _fits(coder: int, segment: Segment) -> bool:
    if coder in (0, 5) or segment.size_bytes == 0:
        return True
    if coder == 1:
        return segment.kind == "bytes" or segment.kind in _BYTE_KINDS
    if coder == 4:
        return segment.kind != "bytes" and BITS[segment.kind] > 8
    return coder in (2, 3) and segment.kind in _BYTE_KINDS
