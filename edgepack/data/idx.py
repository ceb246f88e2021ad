"""Samples in the IDX files of MNIST and its relatives."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgepack.core.errors import DataError
from edgepack.core.types import Array
from edgepack.data.paths import existing_file, existing_folder
from edgepack.data.protocol import RawSamples

# Magic numbers of https://yann.lecun.com/exdb/mnist: two zero bytes, type 0x08 (uint8), number of dimensions.
_IMAGES_MAGIC, _LABELS_MAGIC = 0x00000803, 0x00000801
_PREFIXES = {"train": "train", "test": "t10k"}
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Idx:
    """Images (N, H, W) uint8 and their labels from a folder in MNIST's form, gzipped or plain.

    `images` and `labels` name the two files; by default `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`
    ('t10k-…' for the test split), with or without '.gz'.
    """

    recipe_folder: Path
    folder: str
    split: Literal["train", "test"]
    images: str | None = None
    labels: str | None = None

    def files(self) -> tuple[Path, ...]:
        folder = existing_folder(self.folder, folder=self.recipe_folder)
        prefix = _PREFIXES[self.split]
        images = self.images or _plain_or_gzipped(folder, f"{prefix}-images-idx3-ubyte")
        labels = self.labels or _plain_or_gzipped(folder, f"{prefix}-labels-idx1-ubyte")
        return existing_file(images, folder=folder), existing_file(labels, folder=folder)

    def load(self) -> RawSamples:
        images, labels = self.files()
        return RawSamples(samples=_read(images, magic=_IMAGES_MAGIC), labels=_read(labels, magic=_LABELS_MAGIC))


def _plain_or_gzipped(folder: Path, name: str) -> str:
    for candidate in (name, f"{name}.gz"):
        if (folder / candidate).is_file():
            return candidate
    raise DataError(
        f"{folder}: holds neither {name} nor {name}.gz; put it there, or name the files with 'images' and 'labels'"
    )


def _read(path: Path, *, magic: int) -> Array:
    content = _content(path)
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise DataError(f"{path}: magic number is {found}, {magic} is needed; are images and labels swapped?")
    header_bytes = 4 + 4 * (magic & 0xFF)
    if len(content) < header_bytes:
        raise DataError(f"{path}: truncated: {len(content)} bytes, its header alone has {header_bytes}; fetch it again")
    shape = struct.unpack(f">{magic & 0xFF}I", content[4:header_bytes])
    expected_bytes = header_bytes + math.prod(shape)
    if len(content) != expected_bytes:
        fault = "truncated" if len(content) < expected_bytes else "too long"
        raise DataError(f"{path}: {fault}: {len(content)} bytes, its header says {expected_bytes}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == _GZIP_MAGIC else content
    except (OSError, EOFError, zlib.error) as exc:
        raise DataError(f"{path}: can't be read ({exc}); fetch it again") from exc
