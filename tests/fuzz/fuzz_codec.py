"""Fuzz targets: what reads coded data. A hostile stream may be refused or give other bytes, of the right number; anything else is a finding.

An input of `codec` is: coder, kind, size (13 bits in two bytes), number of bytes of parameters and of the base (two bytes), then both, then the payload. The C
harness (`c/fuzz_decode.c`) reads the same, so both share a corpus.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgepack.codec.coders import decode, encode
from edgepack.codec.types import BITS, KINDS, PROFILES, Coded, Kind, Profile, Segment
from edgepack.core.errors import BundleError

_HEAD_BYTES = 7
_SIZE_MASK = 0x1FFF  # an input is decoded in a millisecond


def codec(data: bytes) -> None:
    """One coded segment, through the compiled library."""
    if len(data) < _HEAD_BYTES:
        return
    size_bytes, params_bytes = int.from_bytes(data[2:4], "little") & _SIZE_MASK, data[4]
    base_bytes = int.from_bytes(data[5:7], "little")
    rest = data[_HEAD_BYTES:]
    params, base, payload = rest[:params_bytes], rest[params_bytes:][:base_bytes], rest[params_bytes:][base_bytes:]
    segment = Segment(size_bytes=size_bytes, kind=KINDS[data[1] % len(KINDS)])
    coded = Coded(coder=data[0], params=params, payload=payload)
    try:
        found = decode(coded, segment, base=base or None)
    except BundleError:
        return
    assert len(found) == size_bytes
    assert decode(coded, segment, base=base or None) == found  # nothing is left over from another call


def input_of(coded: Coded, kind: Kind, size_bytes: int, base: bytes = b"") -> bytes:
    head = bytes([coded.coder, KINDS.index(kind)]) + size_bytes.to_bytes(2, "little")
    head += bytes([len(coded.params)]) + len(base).to_bytes(2, "little")
    return head + coded.params + base + coded.payload


def seeds() -> dict[str, dict[str, bytes]]:
    """Each coder on each kind of data that it is for."""
    generator, found = np.random.default_rng(5), {}
    for kind in KINDS:
        for profile in PROFILES:
            for count in _counts(kind, profile):
                data = _plausible(kind, count, generator)
                base = (
                    bytes(data[:-7]) + bytes(7)
                    if kind == "bytes"
                    else bytes(generator.permutation(list(data))[: len(data)].astype(np.uint8))
                )
                width = max(1, BITS[kind] // 8)
                shape = () if kind == "bytes" else (8, len(data) * (2 if BITS[kind] == 4 else 1) // 8 // width)
                segment = Segment(size_bytes=len(data), kind=kind, shape=shape, channel_axis=0 if shape else None)
                for name, given in (("plain", None), ("base", base)):
                    coded = encode(data, segment, profile=profile, base=given)
                    found[f"{kind}-{profile}-{count}-{name}"] = input_of(coded, kind, len(data), given or b"")
    return {"codec": found}


def _counts(kind: Kind, profile: Profile) -> tuple[int, ...]:
    """`fast` has coders of its own for weights of over 4096 bytes."""
    return (48, 960, 6000) if profile == "fast" and kind in ("i8", "u8", "i4") else (48, 960)


def _plausible(kind: Kind, count: int, generator: np.random.Generator) -> bytes:
    if kind == "bytes":
        return (b'{"name": "weight", "shape": [1, 2]}\n' * count)[:count]
    if count > 4096 and kind != "u8":  # mostly zeros: the adaptive coder
        return bytes((generator.normal(size=count) > 1.2).astype(np.int8) * generator.integers(1, 60, count, np.int8))
    values = np.clip(generator.normal(scale=20, size=count), -127, 127)
    if BITS[kind] == 4:
        nibbles = (np.clip(values / 16, -7, 7).astype(np.int8) & 15).astype(np.uint8)
        return bytes(nibbles[0::2] | nibbles[1::2] << 4)
    types = {"i8": np.int8, "u8": np.uint8, "i16": np.int16, "i32": np.int32, "f16": np.float16, "f32": np.float32}
    shifted = values + 128 if kind == "u8" else values
    return shifted.astype(types[kind]).tobytes()[: count // 4 * 4]


TARGETS: dict[str, Callable[[bytes], None]] = {"codec": codec}
MUTATORS: dict[str, Callable[..., bytes]] = {}
