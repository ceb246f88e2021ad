"""Samples in a NumPy .npz file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from edgepack.core.errors import DataError, did_you_mean
from edgepack.core.types import Array
from edgepack.data.paths import existing_file
from edgepack.data.protocol import RawSamples


@dataclass(frozen=True, slots=True, kw_only=True)
class Npz:
    """Arrays of an .npz file, read without pickle.

    `x` is the key of the samples, or a table from input names to keys for a model with several inputs; `y` is the key
    of the labels. With `offsets`, `x` holds encoded images end to end: image i is x[offsets[i]:offsets[i + 1]].
    `start`, `stop` and `step` choose samples as a Python slice does; `step` is at least 1. `without_every` = n leaves out samples 0, n, 2n, … of the
    file, those that `step` = n takes.
    """

    recipe_folder: Path
    file: str
    x: str | Mapping[str, str] = "x"
    y: str | None = None
    offsets: str | None = None
    start: int | None = None
    stop: int | None = None
    step: int = 1
    without_every: int | None = None

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"'step' must be at least 1, got {self.step}")
        if self.without_every is not None and self.without_every < 2:
            raise ValueError(f"'without_every' must be at least 2, got {self.without_every}")
        if not isinstance(self.x, str) and (self.offsets is not None or not self.x):
            raise ValueError("'x' must be one key when 'offsets' is given, and must not be an empty table")

    @property
    def labelled(self) -> bool:
        """Whether the samples have labels."""
        return self.y is not None

    def files(self) -> tuple[Path, ...]:
        return (existing_file(self.file, folder=self.recipe_folder),)

    def load(self) -> RawSamples:
        path = self.files()[0]
        try:
            archive = np.load(path, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise DataError(f"{path}: holds one array (.npy); save it with numpy.savez and name its key in 'x'")
            with archive:
                return RawSamples(samples=self._samples(archive, path), labels=self._labels(archive, path))
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
            raise DataError(
                f"{path}: not a readable .npz file without pickled objects ({exc}); write it again"
            ) from exc

    def _samples(self, archive: NpzFile, path: Path) -> Array | list[bytes] | dict[str, Array]:
        if not isinstance(self.x, str):
            return {name: self._chosen(_array(archive, key, path)) for name, key in self.x.items()}
        samples = _array(archive, self.x, path)
        if self.offsets is None:
            return self._chosen(samples)
        offsets = _array(archive, self.offsets, path)
        _check_offsets(offsets, samples, path)
        data = samples.tobytes()
        chosen = self._chosen(np.stack([offsets[:-1], offsets[1:]], axis=1))
        return [data[begin:end] for begin, end in chosen.tolist()]

    def _labels(self, archive: NpzFile, path: Path) -> Array | None:
        return None if self.y is None else self._chosen(_array(archive, self.y, path))

    def _chosen(self, array: Array) -> Array:
        rows = np.arange(len(array))[self.start : self.stop : self.step]
        return array[rows if self.without_every is None else rows[rows % self.without_every != 0]]


def _array(archive: NpzFile, key: str, path: Path) -> Array:
    if key not in archive.files:
        raise DataError(f"{path}: no array '{key}' in it{did_you_mean(key, archive.files)}")
    array: Array = archive[key]
    if array.ndim == 0:
        raise DataError(f"{path}: array '{key}' is a single value; an array with one row per sample is needed")
    return array


def _check_offsets(offsets: Array, data: Array, path: Path) -> None:
    if data.dtype != np.uint8 or data.ndim != 1:
        raise DataError(f"{path}: packed images must be uint8 with one axis, got {data.dtype} {data.shape}")
    if offsets.dtype.kind not in "iu" or offsets.ndim != 1:
        raise DataError(f"{path}: offsets must be integers with one axis, got {offsets.dtype} {offsets.shape}")
    steps = np.diff(offsets.astype(np.int64))
    if offsets.size < 2 or offsets[0] < 0 or offsets[-1] > data.size or np.any(steps <= 0):
        raise DataError(
            f"{path}: offsets must rise within 0…{data.size}, with one more entry than images; write the file again"
        )
