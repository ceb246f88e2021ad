"""From a path as a recipe writes it to a file that is there."""

from __future__ import annotations

from pathlib import Path

from edgepack.core.errors import DataError
from edgepack.core.paths import expand as core_expand


def expand(text: str, *, folder: Path) -> Path:
    """See core.paths.expand. Raises DataError."""
    return core_expand(text, folder=folder, error=DataError)


def existing_file(text: str, *, folder: Path) -> Path:
    """The file that a recipe means. Raises DataError when there is none."""
    path = expand(text, folder=folder)
    if path.is_dir():
        raise DataError(f"{path}: is a folder, a file is needed; name a file in it")
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path, which is relative to the recipe's folder")
    return path


def existing_folder(text: str, *, folder: Path) -> Path:
    """The folder that a recipe means. Raises DataError when there is none."""
    path = expand(text, folder=folder)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; check the path, which is relative to the recipe's folder")
    return path
