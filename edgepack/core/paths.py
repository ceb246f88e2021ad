"""From a path as a recipe writes it to the path that it means."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgepack.core.errors import EdgepackError

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def expand(text: str, *, folder: Path, error: type[EdgepackError]) -> Path:
    """${VARIABLE} and ~ expanded, and relative to `folder`, the recipe's own. Raises `error` that names a variable which is not set."""

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        if not os.environ.get(name):
            raise error(f"'{text}': the environment variable '{name}' is not set; set it, or write the path out")
        return os.environ[name]

    path = Path(_VARIABLE.sub(value_of, text))
    try:
        return folder / path.expanduser()
    except RuntimeError as exc:
        raise error(f"'{text}': no home folder for '~' here ({exc}); write the path out") from exc
