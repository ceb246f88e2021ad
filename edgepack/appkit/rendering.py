"""A kit's folder from its templates: files that end in `.j2` are rendered, others are copied as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.core.files import write_atomic

_SUFFIX = ".j2"


def render(
    templates: Path, folder: Path, values: Mapping[str, Any], *, places: Mapping[str, str] | None = None
) -> None:
    """Write every file of `templates` below `folder`.

    `places` says what stands for a word in a template's path, e.g. {"PACKAGE": "digits"}. A template that names an unknown value is our
    own mistake (jinja2's UndefinedError).
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {
        "quoted": quoted,
        "python": python_literal,
        "one_line": one_line,
        "float32": float32_literal,
    }
    for source in sorted(path for path in templates.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        name = source.relative_to(templates).as_posix()
        for word, meaning in (places or {}).items():
            name = name.replace(word, meaning)
        data = source.read_bytes()
        if name.endswith(_SUFFIX):
            name, data = name.removesuffix(_SUFFIX), environment.from_string(data.decode()).render(values).encode()
        write_atomic(folder / PurePosixPath(name), data)


def quoted(text: str) -> str:
    """A text in double quotes, as Python, TOML, JSON, C++ (UTF-8), Java and JavaScript read it."""
    return json.dumps(text, ensure_ascii=False)


def one_line(text: str) -> str:
    """A text for a comment or docstring: on one line, without what could end it."""
    return " ".join(text.split()).replace('"""', "'''").replace("*/", "* /").replace("\\", "/")


def python_literal(value: Any) -> str:
    """Plain data as Python source, texts in double quotes."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{python_literal(key)}: {python_literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(python_literal, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(python_literal, value)) + "]"
    return repr(value)


def float32_literal(value: float) -> str:
    """The float32 nearest to a number, as C and C++ read it back exactly."""
    text = str(np.float32(value))
    return f"{text}f" if any(sign in text for sign in ".e") else f"{text}.0f"


def copy_entries(bundle: Bundle, names: Mapping[str, PurePosixPath], folder: Path) -> None:
    """Write entries of a bundle, checked against its manifest: entry name to place below `folder`."""
    for name, place in names.items():
        write_atomic(folder / place, bundle.read(name))


def pinned_files(bundle: Bundle, variant: Variant) -> dict[str, tuple[str, int]]:
    """SHA-256 and size of every file that an app loads: the model with its companions and the labels, by entry name."""
    found = {file.path: (file.sha256, file.size_bytes) for file in variant.model.files}
    found |= {one.path: (one.sha256, one.size_bytes) for one in bundle.manifest.files if one.path == "labels.txt"}
    return found


def golden_files(variant: Variant) -> tuple[str, ...]:
    """The entries with the golden samples, none where there are no golden samples."""
    return () if variant.golden is None else variant.golden.files
