"""A folder per class as samples."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgepack.core.errors import DataError
from edgepack.data.protocol import Provider
from edgepack.data.sections import open_provider
from edgepack.recipe import DataSection


def open_in(folder: Path, provider: str, /, **options: Any) -> Provider:
    return open_provider(DataSection(provider=provider, **options), folder=folder)


def _encoded(shade: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, shade, shade)).save(file, kind)
    return file.getvalue()


def test_image_folder_gives_sorted_classes_and_images(tmp_path: Path) -> None:
    for name, shade in (("dog/b.JPG", 2), ("dog/a.png", 1), ("cat/z.jpeg", 0)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(_encoded(shade, "PNG" if name.endswith("png") else "JPEG"))
    (tmp_path / "notes.txt").write_text("beside the classes")
    (tmp_path / "cat" / ".DS_Store").write_text("hidden")

    provider = open_in(tmp_path, "image_folder", folder=".")
    raw = provider.load()

    assert [f"{file.parent.name}/{file.name}" for file in provider.files()] == ["cat/z.jpeg", "dog/a.png", "dog/b.JPG"]
    assert raw.labels is not None and raw.labels.tolist() == [0, 1, 1]
    assert raw.samples == [file.read_bytes() for file in provider.files()]


def test_image_folders_that_are_wrong_are_refused(tmp_path: Path) -> None:
    provider = open_in(tmp_path, "image_folder", folder=".")
    with pytest.raises(DataError, match="no class folders in it"):
        provider.files()

    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="cat: no images in it"):
        provider.files()

    (tmp_path / "cat" / "a.bmp").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.bmp: not a \.jpg, \.jpeg, \.png file; convert it"):
        provider.load()
