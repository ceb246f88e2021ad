"""Packed NumPy arrays as samples."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgepack.core.errors import DataError, RecipeError
from edgepack.data.protocol import Provider, RawSamples
from edgepack.data.sections import open_provider
from edgepack.recipe import DataSection


def open_in(folder: Path, provider: str, /, **options: Any) -> Provider:
    return open_provider(DataSection(provider=provider, **options), folder=folder)


def load_in(folder: Path, provider: str, /, **options: Any) -> RawSamples:
    return open_in(folder, provider, **options).load()


def _encoded(shade: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, shade, shade)).save(file, kind)
    return file.getvalue()


def test_npz_gives_the_named_arrays_and_a_slice_of_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(20).reshape(10, 2), y=np.arange(10, dtype=np.int16))

    raw = load_in(tmp_path, "npz", file="a.npz", y="y", start=1, stop=9, step=3)

    assert isinstance(raw.samples, np.ndarray)
    assert raw.samples[:, 0].tolist() == [2, 8, 14]
    assert raw.labels is not None and raw.labels.tolist() == [1, 4, 7]
    assert load_in(tmp_path, "npz", file="a.npz").labels is None


def test_npz_unpacks_encoded_images(tmp_path: Path) -> None:
    images = [_encoded(shade) for shade in (0, 100, 200)]
    offsets = np.cumsum([0, *map(len, images)])
    np.savez(tmp_path / "a.npz", jpeg=np.frombuffer(b"".join(images), np.uint8), offsets=offsets)

    assert load_in(tmp_path, "npz", file="a.npz", x="jpeg", offsets="offsets").samples == images
    assert load_in(tmp_path, "npz", file="a.npz", x="jpeg", offsets="offsets", step=2).samples == images[::2]


def test_npz_gives_one_array_per_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ids=np.zeros((3, 2)), mask=np.ones((3, 2)))

    raw = load_in(tmp_path, "npz", file="a.npz", x={"tokens": "ids", "valid": "mask"})

    assert isinstance(raw.samples, dict)
    assert set(raw.samples) == {"tokens", "valid"} and len(raw) == 3


def test_npz_files_that_are_wrong_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3), one=np.float32(1), objects=np.array([{}], object))
    np.save(tmp_path / "b.npy", np.zeros(3))
    (tmp_path / "c.npz").write_bytes(b"nonsense")
    (tmp_path / "d.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])

    for options, message in [
        ({"file": "a.npz", "x": "xx"}, r"no array 'xx' in it \(did you mean 'x'\?\)|no array 'xx' in it \(known"),
        ({"file": "a.npz", "x": "one"}, "array 'one' is a single value"),
        ({"file": "a.npz", "x": "objects"}, "without pickled objects"),
        ({"file": "b.npy"}, r"holds one array \(.npy\)"),
        ({"file": "c.npz"}, "c.npz: not a readable .npz file"),
        ({"file": "d.npz"}, "d.npz: not a readable .npz file"),
    ]:
        with pytest.raises(DataError, match=message):
            load_in(tmp_path, "npz", **options)


@pytest.mark.parametrize("offsets", [[0, 2, 99], [-1, 2], [2, 2], [3, 1], [0]])
def test_npz_offsets_that_do_not_fit_are_refused(tmp_path: Path, offsets: list[int]) -> None:
    np.savez(
        tmp_path / "a.npz", x=np.zeros(10, np.uint8), offsets=np.array(offsets), f=np.zeros(3), two=np.zeros((2, 2))
    )

    with pytest.raises(DataError, match="offsets must rise within 0…10"):
        load_in(tmp_path, "npz", file="a.npz", offsets="offsets")
    with pytest.raises(DataError, match="offsets must be integers"):
        load_in(tmp_path, "npz", file="a.npz", offsets="f")
    with pytest.raises(DataError, match="packed images must be uint8"):
        load_in(tmp_path, "npz", file="a.npz", x="two", offsets="offsets")


def test_samples_that_judge_can_be_left_out_of_the_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(12), y=np.arange(12) % 3)

    judged = load_in(tmp_path, "npz", file="a.npz", y="y", step=5)
    others = load_in(tmp_path, "npz", file="a.npz", y="y", without_every=5)
    part = load_in(tmp_path, "npz", file="a.npz", y="y", without_every=5, start=3, stop=9)

    assert list(judged.samples) == [0, 5, 10]
    assert list(others.samples) == [1, 2, 3, 4, 6, 7, 8, 9, 11]
    assert others.labels is not None and list(others.labels) == [1, 2, 0, 1, 0, 1, 2, 0, 2]
    assert list(part.samples) == [3, 4, 6, 7, 8]


def test_leaving_every_sample_out_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(12))

    with pytest.raises(RecipeError, match="'without_every' must be at least 2, got 1"):
        load_in(tmp_path, "npz", file="a.npz", without_every=1)
