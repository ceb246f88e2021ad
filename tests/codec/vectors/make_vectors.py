"""Writes vectors.json beside it: small coded segments of every coder and feature. `python tests/codec/vectors/make_vectors.py`.

Run it only when the format changes on purpose: a decoder in the field must go on decoding what is there.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.codec import coders
from edgepack.codec.coders import encode
from edgepack.codec.library import library
from edgepack.codec.types import Coded, Kind, Segment

HERE = Path(__file__).resolve().parent
RANDOM = np.random.default_rng(20)


def weights(
    shape: tuple[int, ...], *, spread: float = 30, density: float = 1.0, largest: int = 127
) -> np.ndarray[Any, Any]:
    """Rows and columns of different spread, as trained weights have."""
    rows = RANDOM.lognormal(0, 0.4, (shape[0], *[1] * (len(shape) - 1)))
    values = RANDOM.normal(0, spread, shape) * rows * RANDOM.lognormal(0, 0.3, shape[-1])
    values[RANDOM.random(shape) >= density] = 0
    return np.rint(values).clip(-largest, largest).astype(np.int8)


def forced(name: str, coder: int, params: bytes, data: bytes, kind: Kind, base: bytes | None = None) -> dict[str, Any]:
    """A vector of one coder with these parameters."""
    compiled = library()
    assert compiled is not None
    payload = compiled.encode(coder, params, data, kind, base, capacity_bytes=2 * len(data) + 64)
    assert payload is not None
    return vector(name, Coded(coder=coder, params=params, payload=payload), data, kind, base)


def vector(name: str, coded: Coded, data: bytes, kind: Kind, base: bytes | None = None) -> dict[str, Any]:
    text = {"params": coded.params, "payload": coded.payload, "base": base or b""}
    return {
        "name": name,
        "coder": coded.coder,
        "kind": kind,
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        **{key: base64.b64encode(value).decode() for key, value in text.items()},
    }


def chosen(name: str, data: bytes, kind: Kind, shape: tuple[int, ...], base: bytes | None = None) -> dict[str, Any]:
    """A vector as profile small codes it."""
    axis = 0 if kind != "bytes" else None
    segment = Segment(size_bytes=len(data), kind=kind, shape=shape, channel_axis=axis)
    return vector(name, encode(data, segment, profile="small", base=base), data, kind, base)


def of_weights() -> Iterator[dict[str, Any]]:
    dense = weights((24, 50))
    sparse = weights((30, 40), density=0.2, largest=15)
    conv = weights((6, 3, 3, 16))
    for coder in (coders.ADAPTIVE, coders.MIX):
        yield forced(f"dense int8, coder {coder}", coder, bytes([0, 7 | 31 << 3, 51, 50]), dense.tobytes(), "i8")
        yield forced(
            f"sparse, transposed, coder {coder}", coder, bytes([1, 4 | 6 << 3, 40, 40]), sparse.tobytes(), "i8"
        )
        base = dense.tobytes()
        new = (dense + (RANDOM.random(dense.shape) < 0.1)).astype(np.int8).tobytes()
        yield forced(f"difference, coder {coder}", coder, bytes([32, 1 | 3 << 3, 20, 50]), new, "i8", base)
    yield chosen("kernel positions", conv.tobytes(), "i8", conv.shape)
    yield chosen(
        "around 131", (weights((20, 30)).astype(np.int16) + 131).clip(0, 255).astype(np.uint8).tobytes(), "u8", (20, 30)
    )
    palette = np.array([-90, -31, -8, 0, 8, 33, 100], np.int8)[RANDOM.integers(0, 7, (15, 40))]
    yield chosen("palette", palette.tobytes(), "i8", palette.shape)
    nibbles = weights((16, 64), spread=3, largest=7).reshape(-1, 32)
    nibbles[:, 5] = 7
    packed = (nibbles.reshape(-1, 2)[:, 0] & 15) | (nibbles.reshape(-1, 2)[:, 1] & 15) << 4
    yield chosen("int4 in groups", packed.astype(np.uint8).tobytes(), "i4", (16, 64))
    yield chosen("uint4", packed.astype(np.uint8).tobytes()[:200], "u4", (400,))


def of_rans() -> Iterator[dict[str, Any]]:
    dense, sparse = weights((30, 70)), weights((40, 50), density=0.3)
    for grain in (0, 1, 9, 17, 6):
        yield forced(f"rans, grain {grain}", coders.RANS, bytes([127, 30, 51, grain, 70, 0]), dense.tobytes(), "i8")
    yield forced("rans, sparse", coders.RANS, bytes([127, 9, 40, 10, 50, 0]), sparse.tobytes(), "i8")
    nibbles = RANDOM.integers(0, 256, 500, np.uint8).tobytes()
    yield forced("rans, uint4", coders.RANS, bytes([8, 29, 38, 1, 100, 8]), nibbles, "u4")
    picture = np.add.outer(np.arange(30), np.arange(24))[:, :, None] + np.array([0, 9, 60])
    picture = (picture + RANDOM.integers(-3, 4, picture.shape)).clip(0, 255).astype(np.uint8)
    yield forced("rans, picture", coders.RANS, bytes([128, 26, 44, 33, 72, 128, 3, 72]), picture.tobytes(), "bytes")


def of_wide() -> Iterator[dict[str, Any]]:
    biases = RANDOM.normal(0, 3000, 120).astype(np.int32)
    yield forced("biases", coders.WIDE, bytes([0, 0]), biases.tobytes(), "i32")
    yield forced("biases, changed", coders.WIDE, bytes([1, 40]), (biases + 3).tobytes(), "i32", biases.tobytes())
    for kind, dtype in (("f32", np.float32), ("f16", np.float16)):
        floats = RANDOM.normal(0, 0.1, (6, 25)).astype(dtype)
        floats[2] = floats[1, 0]
        yield forced(f"floats, {kind}", coders.WIDE, bytes([0, 25]), floats.tobytes(), kind)  # type: ignore[arg-type]
        yield forced(
            f"floats, {kind}, changed",
            coders.WIDE,
            bytes([1, 0]),
            (floats * dtype(1.01)).tobytes(),
            kind,
            floats.tobytes(),
        )  # type: ignore[arg-type]
    yield forced("int16", coders.WIDE, bytes([0, 0]), RANDOM.normal(0, 90, 99).astype(np.int16).tobytes(), "i16")


def of_bytes() -> Iterator[dict[str, Any]]:
    text = json.dumps(
        [{"name": f"layer {i}", "shape": [i, 3, 3, 16 * i], "scale": 0.1 / (i + 1)} for i in range(25)]
    ).encode()
    for flags in (0, 1):
        yield forced(f"text, flags {flags}", coders.BYTES, bytes([flags, 0]), text, "bytes")
        yield forced(
            f"table, flags {flags}", coders.BYTES, bytes([flags, 12]), np.arange(300, dtype="<i4").tobytes(), "bytes"
        )
        newer = text.replace(b"layer", b"block").replace(b"16,", b"17,")
        yield forced(f"newer text, flags {flags}", coders.BYTES, bytes([flags | 2, 0]), newer, "bytes", text)
    file = io.BytesIO()
    np.save(file, RANDOM.integers(0, 9, (10, 12)).astype(np.uint8))
    yield chosen("array file", file.getvalue(), "bytes", ())
    manifest = b'{"schema_version": "2.0", "name": "digits", "created_with": {"edgepack": "0.1.0", "numpy": "2.4.6"}}'
    for flags in (4, 5):
        yield forced(
            f"text with the decoder's history, flags {flags}", coders.BYTES, bytes([flags, 0]), manifest, "bytes"
        )
    yield vector("raw", Coded(coder=coders.RAW, params=b"", payload=b"abc"), b"abc", "bytes")


def main() -> None:
    vectors = [*of_weights(), *of_rans(), *of_wide(), *of_bytes()]
    (HERE / "vectors.json").write_text(json.dumps(vectors, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
