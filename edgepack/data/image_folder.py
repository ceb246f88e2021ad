"""Samples as image files, one folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack.core.errors import DataError
from edgepack.data.paths import existing_folder
from edgepack.data.protocol import RawSamples

_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """The encoded images of `folder`/<class>/*.jpg, *.jpeg and *.png; class i is the i-th folder by sorted name.

    Images come class by class, sorted by name. Hidden files and files beside the class folders are left out;
    anything else in a class folder is an error, so that no image is skipped in silence.
    """

    recipe_folder: Path
    folder: str

    def files(self) -> tuple[Path, ...]:
        return tuple(image for images in self._classes().values() for image in images)

    def load(self) -> RawSamples:
        classes = self._classes()
        labels = np.repeat(np.arange(len(classes)), [len(images) for images in classes.values()])
        try:
            samples = [image.read_bytes() for images in classes.values() for image in images]
        except OSError as exc:
            raise DataError(f"{exc.filename}: can't be read ({exc.strerror}); check the file") from exc
        origins = tuple(f"{name}/{image.name}" for name, images in classes.items() for image in images)
        return RawSamples(samples=samples, labels=labels, origins=origins)

    def _classes(self) -> dict[str, list[Path]]:
        root = existing_folder(self.folder, folder=self.recipe_folder)
        folders = sorted((entry for entry in _visible(root) if entry.is_dir()), key=lambda entry: entry.name)
        if not folders:
            raise DataError(f"{root}: no class folders in it; lay the images out as {root.name}/<class>/<image>.jpg")
        return {folder.name: _images(folder) for folder in folders}


def _images(folder: Path) -> list[Path]:
    images = sorted(_visible(folder), key=lambda entry: entry.name)
    if not images:
        raise DataError(f"{folder}: no images in it; add some, or remove the folder: each folder counts as a class")
    for image in images:
        if image.suffix.lower() not in _SUFFIXES or not image.is_file():
            raise DataError(
                f"{image}: not a {', '.join(_SUFFIXES)} file; convert it, or move it out of the class folder"
            )
    return images


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
