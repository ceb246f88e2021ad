"""The files of MNIST and its relatives as samples."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.core.errors import DataError
from edgepack.data.protocol import Provider, RawSamples
from edgepack.data.sections import open_provider
from edgepack.recipe import DataSection


def open_in(folder: Path, provider: str, /, **options: Any) -> Provider:
    return open_provider(DataSection(provider=provider, **options), folder=folder)


def load_in(folder: Path, provider: str, /, **options: Any) -> RawSamples:
    return open_in(folder, provider, **options).load()


def _write_idx(folder: Path, *, count: int = 3, zipped: bool = True, cut: int = 0, swap: bool = False) -> None:
    pixels = np.arange(count * 4, dtype=np.uint8).tobytes()
    images = struct.pack(">4I", 0x803, count, 2, 2) + pixels
    labels = struct.pack(">2I", 0x801, count) + bytes(range(count))
    if swap:
        images, labels = labels, images
    for name, content in (("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)):
        shortened = content[: len(content) - cut]
        (folder / f"{name}{'.gz' * zipped}").write_bytes(gzip.compress(shortened) if zipped else shortened)


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_gives_images_and_labels(tmp_path: Path, zipped: bool) -> None:
    _write_idx(tmp_path, zipped=zipped)

    raw = load_in(tmp_path, "idx", folder=".", split="test")

    assert isinstance(raw.samples, np.ndarray) and raw.samples.shape == (3, 2, 2)
    assert raw.samples.dtype == np.uint8 and raw.samples[2, 1, 1] == 11
    assert raw.labels is not None and raw.labels.tolist() == [0, 1, 2]


def test_idx_files_may_have_other_names(tmp_path: Path) -> None:
    _write_idx(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte.gz").rename(tmp_path / "pictures")

    files = open_in(tmp_path, "idx", folder=".", split="test", images="pictures").files()

    assert [file.name for file in files] == ["pictures", "t10k-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cut": 1}, "truncated: 27 bytes, its header says 28"),
        ({"cut": 20}, "truncated: 8"),
        ({"swap": True}, "magic number is 2049"),
    ],
)
def test_idx_files_that_are_wrong_are_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    _write_idx(tmp_path, **wrong)

    with pytest.raises(DataError, match=message):
        load_in(tmp_path, "idx", folder=".", split="test")


def test_idx_files_that_are_missing_or_cut_in_the_gzip_stream_are_refused(tmp_path: Path) -> None:
    _write_idx(tmp_path)
    images = tmp_path / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-12])

    with pytest.raises(DataError, match=r"can't be read .*; fetch it again"):
        load_in(tmp_path, "idx", folder=".", split="test")
    with pytest.raises(DataError, match="holds neither train-images-idx3-ubyte nor"):
        load_in(tmp_path, "idx", folder=".", split="train")
