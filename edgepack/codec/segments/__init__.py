"""Where tensors lie inside model files: one file a format, one table.

A finder only reads; nothing of a file is trusted. What doesn't add up (an offset past the end, a shape that doesn't fit its size) is left
to kind "bytes", so every file, however broken, is a list of segments that tile it exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from edgepack.codec.segments.tile import Found, tiled
from edgepack.codec.types import Segment
from edgepack.core.registry import Registry

# The bytes of the file of that name beside the one that is read; None where there is none.
Beside = Callable[[str], bytes | None]
Finder = Callable[[bytes, str, Beside], list[Found]]

# By suffix, without the dot.
FINDERS: Registry[Finder] = Registry(
    "segment_finder",
    {
        "bin": "edgepack.codec.segments.openvino:find",
        "npy": "edgepack.codec.segments.npy:find",
        "onnx": "edgepack.codec.segments.onnx:find",
        "safetensors": "edgepack.codec.segments.safetensors:find",
        "tflite": "edgepack.codec.segments.tflite:find",
    },
)
TENSORS_MAX = 20_000  # more are found in no model here; the rest of the file is bytes


def no_file_beside(name: str) -> bytes | None:
    """For a file that lies alone."""
    return None


def segments_of(data: bytes, name: str, beside: Beside = no_file_beside) -> tuple[Segment, ...]:
    """The segments of a file, in order, together as long as the file. `name` decides the format by its suffix.

    `beside` gives the bytes of other files in the same folder by their name, e.g. the `.xml` of an OpenVINO `.bin`.
    """
    suffix = PurePosixPath(name).suffix.removeprefix(".").lower()
    if suffix not in FINDERS:
        return tiled(len(data), [])
    return tiled(len(data), FINDERS.load(suffix)(data, PurePosixPath(name).name, beside)[:TENSORS_MAX])
