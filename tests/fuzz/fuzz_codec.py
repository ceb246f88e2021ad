"""Fuzz targets: what reads coded data. A hostile stream may be refused or give other bytes, of the right number; anything else is a finding.

An input of `codec` is: coder, kind, size (13 bits in two bytes), number of bytes of parameters and of the base (two bytes), then both, then the payload. The C
harness (`c/fuzz_decode.c`) reads the same, so both share a corpus.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgepack.bundle.golden import to_npy
from edgepack.codec import reference
from edgepack.codec.coders import RANS, decode, encode
from edgepack.codec.library import library
from edgepack.codec.parameters import image_params, npy_header
from edgepack.codec.types import BITS, KINDS, PROFILES, Coded, Kind, Profile, Segment
from edgepack.core.errors import BundleError

_HEAD_BYTES = 7
_REFERENCE_BYTES_MAX = 512  # the reference decodes ten kilobytes in a second
_SIZE_MASK = 0x1FFF  # an input is decoded in a millisecond


def codec(data: bytes) -> None:
    """One coded segment: the compiled library and the reference in Python refuse the same, and give the same bytes."""
    if len(data) < _HEAD_BYTES:
        return
    size_bytes, params_bytes = int.from_bytes(data[2:4], "little") & _SIZE_MASK, data[4]
    base_bytes = int.from_bytes(data[5:7], "little")
    rest = data[_HEAD_BYTES:]
    params, base, payload = rest[:params_bytes], rest[params_bytes:][:base_bytes], rest[params_bytes:][base_bytes:]
    segment = Segment(size_bytes=size_bytes, kind=KINDS[data[1] % len(KINDS)])
    coded = Coded(coder=data[0], params=params, payload=payload)
    found = _decoded(decode, coded, segment, base)
    assert found is None or len(found) == size_bytes
    assert _decoded(decode, coded, segment, base) == found  # nothing is left over from another call
    if size_bytes <= _REFERENCE_BYTES_MAX:
        assert _decoded(reference.decode, coded, segment, base) == found


def _decoded(by: Callable[..., bytes], coded: Coded, segment: Segment, base: bytes) -> bytes | None:
    """None for a refusal."""
    try:
        return by(coded, segment, base=base or None)
    except BundleError:
        return None


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
    for pixels in (4, 12):
        image = (np.indices((2, pixels, pixels, 3)).sum(axis=0) * 5 % 256).astype(np.uint8)
        found[f"image-{pixels}"] = _image(to_npy(image))
    return {"codec": found}


def _image(data: bytes) -> bytes:
    """Golden images have a coder of their own, else only for larger ones."""
    header, compiled = npy_header(data), library()
    assert header is not None and compiled is not None
    params = image_params(header)
    payload = compiled.encode(RANS, params, data, "bytes", None, capacity_bytes=2 * len(data))
    assert payload is not None
    return input_of(Coded(coder=RANS, params=params, payload=payload), "bytes", len(data))


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
