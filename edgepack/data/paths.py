"""From a path as a recipe writes it to a file that is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgepack.core.errors import DataError

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def expand(text: str, *, folder: Path) -> Path:
    """The path that a recipe means: ${VARIABLE} and ~ expanded, and relative to `folder`, the recipe's own.

    Raises DataError that names a variable which is not set.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        if not os.environ.get(name):
            raise DataError(f"'{text}': the environment variable '{name}' is not set; set it, or write the path out")
        return os.environ[name]

    path = Path(_VARIABLE.sub(value_of, text))
    try:
        return folder / path.expanduser()
    except RuntimeError as exc:
        raise DataError(f"'{text}': no home folder for '~' here ({exc}); write the path out") from exc


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
