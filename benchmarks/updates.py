"""`python -m benchmarks updates`: whole delta files between real .tflite files, against zstd --patch-from, bsdiff4 and detools.

The updates are simulated: Gaussian noise on the float weights of EfficientNet-Lite0, in proportion to each layer's spread, rounded to the base's
scales. A float weight is its code plus a uniform remainder, for rounding took that. How strong the noise is follows from the share of codes that
shall change. "last blocks" is the classifier, the head before it and the last block's projection, at the noise of 42 %; "sparse" is noise on one weight in a
hundred, of which some keep their codes, so strong that zstd and bsdiff4 come out as by hand.
"""

from __future__ import annotations

import io
import os
import time
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.places import EXAMPLES
from edgepack.codec.segments import segments_of
from edgepack.codec.wire_read import unpack_wire
from edgepack.codec.wire_write import pack_wire

MODEL = EXAMPLES / "efficientnet_lite0" / "dist" / "efficientnet-lite0-1.0.0-arm64.edgepack"
# anchors: zstd --patch-from, bsdiff4, detools, goal; kB
ANCHORS = {
    "all layers, 7 % changed": (652, 301, 320, 250),
    "all layers, 42 % changed": (3078, 1174, 1065, 890),
    "last blocks only": (1343, 511, 456, 400),
    "sparse, 1 % changed": (97, 68, 109, 63),
}
_LAST = ("Linear__fc;", "conv_head;", "MBConvBlock_15/efficientnet_lite_pytorch.utils.Conv2dStaticSamePadding__project")
_SPARSE_STRENGTH = 0.09  # of the layer's spread
Codes = NDArray[np.int8]
Reals = NDArray[np.float64]


def run() -> None:
    """Print the table."""
    base = model_bytes()
    print(
        f"{'update':28}{'changed':>9}{'zstd':>8}{'bsdiff4':>9}{'detools':>9}{'edgepack':>10}{'goal':>7}   make s  apply s"
    )
    for name, (*_, goal_kb) in ANCHORS.items():
        if os.environ.get("EDGEPACK_BENCHMARK_ONLY", "") not in name:
            continue
        new = updated(base, name)
        changed = float(np.mean(weights(base) != weights(new)))
        others = [len(make(base, new)) / 1000 for make in (zstd_patch, bsdiff_patch, detools_patch)]
        for profile in ("small", "fast"):
            begin = time.perf_counter()
            delta = pack_wire(new, "model.tflite", base=base, profile=profile).wire  # type: ignore[arg-type]
            made = time.perf_counter()
            assert unpack_wire(delta, base=base) == new
            applied = time.perf_counter()
            row = "".join(f"{value:{width}.1f}" for value, width in zip(others, (8, 9, 9), strict=True))
            print(
                f"{name:28}{changed:9.2%}{row}{len(delta) / 1000:10.1f}{goal_kb:7}   {made - begin:6.1f} {applied - made:8.1f}  {profile}",
                flush=True,
            )
            assert len(delta) / 1000 < min(others), f"{name}: {profile} is larger than another tool's"
    print(
        "\nkB (1000 bytes) of the whole delta file; what edgepack's digests and names take is in it. Anchors by hand:"
    )
    for name, row in ANCHORS.items():
        print(f"{name:28}         {row[0]:8}{row[1]:9}{row[2]:9}")


def model_bytes() -> bytes:
    """The int8 .tflite of the example; `make examples` builds it."""
    with zipfile.ZipFile(MODEL) as archive:  # of any bundle format
        return archive.read("model/model.tflite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A weight tensor: where its codes lie, and each code's scale."""

    name: str
    offset: int
    codes: Codes
    scales: Reals


def weights(model: bytes) -> Codes:
    """Every code of every int8 tensor."""
    return np.concatenate([layer.codes for layer in layers(model)])


def layers(model: bytes) -> list[Layer]:
    """The int8 tensors."""
    segments = segments_of(model, "model.tflite")
    offsets = np.cumsum([0, *(segment.size_bytes for segment in segments)]).tolist()
    scales = {
        segment.name: np.frombuffer(model, "<f4", segment.size_bytes // 4, offset)
        for segment, offset in zip(segments, offsets, strict=False)
        if segment.name.endswith("/scale")
    }
    found = []
    for segment, offset in zip(segments, offsets, strict=False):
        if segment.kind == "i8":
            shape = [1] * len(segment.shape)
            own = scales[f"{segment.name}/scale"]
            shape[segment.channel_axis or 0] = len(own)
            codes = np.frombuffer(model, np.int8, segment.size_bytes, offset)
            spread = np.broadcast_to(own.reshape(shape), segment.shape).reshape(-1).astype(np.float64)
            found.append(Layer(name=segment.name, offset=offset, codes=codes, scales=spread))
    return found


def updated(model: bytes, name: str) -> bytes:
    """The model after the update of that name."""
    found = layers(model)
    strength = 0.0 if name.startswith("sparse") else _strength(found, 0.07 if "7 %" in name else 0.42)
    new = bytearray(model)
    for number, layer in enumerate(found):
        if name.startswith("last") and not any(part in layer.name for part in _LAST):
            continue
        random = np.random.default_rng(number)
        codes = _noisy(layer, strength, random) if strength else _sparse(layer, random)
        new[layer.offset : layer.offset + len(codes)] = codes.tobytes()
    return bytes(new)


def _noisy(layer: Layer, strength: float, random: np.random.Generator) -> Codes:
    """`strength`: standard deviation of the noise, as a share of the float weights' own."""
    reals = (layer.codes + random.uniform(-0.5, 0.5, len(layer.codes))) * layer.scales
    noisy = reals + random.normal(0, strength * reals.std(), len(reals))
    return np.clip(np.rint(noisy / layer.scales), -127, 127).astype(np.int8)


def _strength(all_layers: list[Layer], share: float) -> float:
    """The noise that changes this share of all codes, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        changed = sum(
            int(np.sum(_noisy(layer, middle, np.random.default_rng(number)) != layer.codes))
            for number, layer in enumerate(all_layers)
        )
        low, high = (middle, high) if changed < share * sum(len(layer.codes) for layer in all_layers) else (low, middle)
    return (low + high) / 2


def _sparse(layer: Layer, random: np.random.Generator) -> Codes:
    """Noise on one weight in a hundred; some of them keep their codes."""
    moved = random.random(len(layer.codes)) < 0.01
    return np.where(moved, _noisy(layer, _SPARSE_STRENGTH, random), layer.codes)


def zstd_patch(old: bytes, new: bytes) -> bytes:
    """What `zstd -19 --long --patch-from` writes."""
    import zstandard

    history = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    params = zstandard.ZstdCompressionParameters.from_level(19, window_log=27, enable_ldm=True)
    return zstandard.ZstdCompressor(dict_data=history, compression_params=params).compress(new)


def bsdiff_patch(old: bytes, new: bytes) -> bytes:
    """What bsdiff4 writes."""
    import bsdiff4

    return bytes(bsdiff4.diff(old, new))


def detools_patch(old: bytes, new: bytes) -> bytes:
    """What `detools create_patch` writes by default (sequential, LZMA)."""
    import detools

    patch = io.BytesIO()
    detools.create_patch(io.BytesIO(old), io.BytesIO(new), patch)
    return patch.getvalue()
