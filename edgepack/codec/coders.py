"""Which coder codes a segment: the smallest of those that a profile allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgepack.codec import reference
from edgepack.codec.library import Library, library
from edgepack.codec.parameters import (
    BYTES_BASE,
    BYTES_HISTORY,
    QUICK,
    WIDE_BASE,
    Codes,
    Statistics,
    View,
    codes_of,
    image_params,
    npy_header,
    picture,
    rans_params,
    statistics,
    stride_of,
    varint,
    views,
    weights_params,
)
from edgepack.codec.types import BITS, Coded, Profile, Segment
from edgepack.core.errors import BundleError, EnvironmentProblem

RAW, RANS, ADAPTIVE, MIX, WIDE, BYTES = range(6)
CODERS: Final = {"raw": RAW, "rans": RANS, "adaptive": ADAPTIVE, "mix": MIX, "wide": WIDE, "bytes": BYTES}
# Ways to look at a tensor are compared on its first bytes.
_SAMPLE_BYTES = 32768
# A tensor this small is mixed in every profile: it takes a few milliseconds.
_SMALL_BYTES = 4096
# How much smaller the slower coder must be to be worth its time in profile `fast`.
_WORTH_IT = 0.97


# How finely `rans` tells its contexts apart (docs/codec.md): all of them are tried, coarse ones where there is little to learn from.
_GRAINS = (0, 1, 9, 17)
_COARSE_GRAINS = (2, 3, 6, 10)
_MANY = 1 << 17
_IMAGE_BYTES = 1 << 16
# Longer data have little to gain from the history that the decoder brings along.
_TEXT_BYTES = 1 << 19


@dataclass(frozen=True, slots=True)
class _Candidate:
    coder: int
    params: bytes
    uses_base: bool = False


def encode(data: bytes, segment: Segment, *, profile: Profile, base: bytes | None = None) -> Coded:
    """The smallest coded form that the profile allows; decoding takes `size_bytes` and `kind` of the segment, no shape.

    `base`: the same tensor of an older model (as long as `data`), or for kind "bytes" history that the new bytes may repeat.
    Raises ValueError when `data` or `base` is not as long as it must be, EnvironmentProblem where no C compiler is there.
    """
    _check(data, segment, base)
    if not data:
        return Coded(coder=RAW, params=b"", payload=b"")
    coded = library()
    if coded is None:
        raise EnvironmentProblem("packing needs the compiled codec: install a C compiler, or point CC at one")
    best = Coded(coder=RAW, params=b"", payload=data)
    for candidate in _candidates(coded, data, segment, profile, base):
        room = len(best.params) + len(best.payload) - len(candidate.params) - 1
        if room <= 0:
            continue
        payload = coded.encode(
            candidate.coder, candidate.params, data, segment.kind, base if candidate.uses_base else None,
            capacity_bytes=room + 32,
        )  # fmt: skip
        if payload is not None and _is_better(best, len(candidate.params) + len(payload), candidate, profile, data):
            best = Coded(coder=candidate.coder, params=candidate.params, payload=payload)
    return best


def decode(coded: Coded, segment: Segment, *, base: bytes | None = None) -> bytes:
    """The segment's bytes. Raises BundleError when the coded form is damaged; any damage that the coder can't see gives other bytes."""
    if segment.size_bytes < 0 or segment.kind not in BITS:
        raise BundleError(f"{segment.name or 'a segment'}: size {segment.size_bytes}, kind '{segment.kind}': damaged")
    compiled = library()
    if compiled is None:
        return reference.decode(coded, segment, base=base)
    return compiled.decode(coded.coder, coded.params, coded.payload, segment, base)


def _check(data: bytes, segment: Segment, base: bytes | None) -> None:
    if len(data) != segment.size_bytes:
        raise ValueError(f"{segment.name}: {len(data)} bytes for a segment of {segment.size_bytes}")
    if base is not None and segment.kind != "bytes" and len(base) != len(data):
        raise ValueError(f"{segment.name}: a base of {len(base)} bytes for a tensor of {len(data)}")


def _is_better(best: Coded, size_bytes: int, candidate: _Candidate, profile: Profile, data: bytes) -> bool:
    limit = float(len(best.params) + len(best.payload))
    if profile == "fast" and candidate.coder == ADAPTIVE and best.coder == RANS and len(data) > _SMALL_BYTES:
        limit *= _WORTH_IT
    return size_bytes < limit


def _candidates(
    compiled: Library, data: bytes, segment: Segment, profile: Profile, base: bytes | None
) -> Iterator[_Candidate]:
    if segment.kind == "bytes":
        yield from _for_bytes(data, profile, base)
    elif BITS[segment.kind] > 8:
        yield from _for_wide(data, segment, base)
    else:
        yield from _for_weights(compiled, data, segment, profile, base)


def _for_bytes(data: bytes, profile: Profile, base: bytes | None) -> Iterator[_Candidate]:
    header = npy_header(data)
    if len(data) > _IMAGE_BYTES and not base and header is not None and header.order is not None:
        yield _Candidate(RANS, image_params(header))  # a photo's golden samples: 100 times as fast, a sixth larger
        return
    quick = QUICK if profile == "fast" and len(data) > _SMALL_BYTES else 0
    stride = varint(stride_of(data))
    if base:
        yield _Candidate(BYTES, bytes([quick | BYTES_BASE]) + stride, uses_base=True)
    else:
        yield _Candidate(BYTES, bytes([quick]) + stride)
        if len(data) <= _TEXT_BYTES:
            yield _Candidate(BYTES, bytes([quick | BYTES_HISTORY]) + stride)


def _for_wide(data: bytes, segment: Segment, base: bytes | None) -> Iterator[_Candidate]:
    width = BITS[segment.kind] // 8
    line = segment.shape[-1] if len(segment.shape) >= 2 else 0
    if len(data) % width == 0:
        yield _Candidate(WIDE, bytes([0]) + varint(line))
        if base is not None:
            yield _Candidate(WIDE, bytes([WIDE_BASE]) + varint(line), uses_base=True)
    if len(data) <= 1 << 16 or len(data) % width:
        yield _Candidate(BYTES, bytes([0]) + varint(width))


def _for_weights(
    compiled: Library, data: bytes, segment: Segment, profile: Profile, base: bytes | None
) -> Iterator[_Candidate]:
    codes = codes_of(data, segment)
    if base is None and (found := picture(codes, segment)) is not None:
        yield _Candidate(RANS, image_params(found))
        if profile == "small" and len(data) <= _IMAGE_BYTES:
            yield _Candidate(BYTES, bytes([0]) + varint(found.row_bytes))
        return
    ways = views(segment, len(codes))
    own = statistics(codes, segment, None)
    if base is not None:
        change = statistics(codes, segment, codes_of(base, segment))
        if change.mean < own.mean:
            yield _mixed(compiled, data, segment, change, ways, base, coder=MIX if profile == "small" else ADAPTIVE)
            return
    if own.largest == 0:  # one code everywhere
        yield _mixed(compiled, data, segment, own, ways, None, coder=ADAPTIVE)
        return
    if profile == "small" or len(data) <= _SMALL_BYTES:
        yield _mixed(compiled, data, segment, own, ways, None, coder=MIX)
        return
    yield from _rans(codes, segment, ways[0])
    if own.density < 24 or own.palette:
        yield _mixed(compiled, data, segment, own, ways, None, coder=ADAPTIVE)


def _rans(codes: Codes, segment: Segment, view: View) -> Iterator[_Candidate]:
    found = statistics(codes, segment, None)
    usual = {"u8": 128, "u4": 8}.get(segment.kind, 0)
    if found.palette:  # `rans` knows no palettes
        values = (
            codes.astype(np.int16) - usual if segment.kind in ("u8", "u4") else codes.view(np.int8).astype(np.int16)
        )
        found = replace(found, values=values, largest=int(np.abs(values).max()), palette=b"", centre=None)
    centre = usual if found.centre is None else found.centre
    for grain in _GRAINS if len(codes) > _MANY else (*_GRAINS, *_COARSE_GRAINS):
        yield _Candidate(RANS, rans_params(found, view, centre, grain))


def _mixed(
    compiled: Library,
    data: bytes,
    segment: Segment,
    found: Statistics,
    ways: list[View],
    base: bytes | None,
    *,
    coder: int,
) -> _Candidate:
    """The best of the ways to look at the tensor, judged by its first lines with the same coder."""
    choices = [_Candidate(coder, weights_params(found, way), uses_base=base is not None) for way in ways]
    if len(choices) == 1:
        return choices[0]
    part_bytes = _sample_bytes(len(data), BITS[segment.kind], ways)
    part, part_base = data[:part_bytes], base[:part_bytes] if base is not None else None
    sizes = []
    for choice in choices:
        payload = compiled.encode(
            coder, choice.params, part, segment.kind, part_base, capacity_bytes=2 * part_bytes + 64
        )
        sizes.append(len(payload) if payload is not None else 2 * part_bytes)
    return choices[sizes.index(min(sizes))]


def _sample_bytes(size_bytes: int, bits: int, ways: list[View]) -> int:
    """Whole lines, so that a part can be transposed, too."""
    line_bits = max(way.line for way in ways) * bits
    if size_bytes <= 2 * _SAMPLE_BYTES or line_bits % 8:
        return size_bytes
    line_bytes = max(line_bits // 8, 1)
    return min(size_bytes, max(_SAMPLE_BYTES // line_bytes, 1) * line_bytes)
