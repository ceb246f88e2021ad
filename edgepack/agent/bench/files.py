"""Reading what a system tells in small files, below a root that is '/' but in tests."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

ROOT = Path("/")


def read_all(pattern: str, root: Path = ROOT) -> list[str]:
    """The contents of the files that match, in the order of their names; a sensor that exists and can't be read is left out."""
    contents = [read(file) for file in sorted(root.glob(pattern))]
    return [content for content in contents if content]


def read(file: Path) -> str | None:
    """The contents of a file without space around it; None where there is none, or where it is empty or can't be read."""
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t") or None
    return None


def number(text: str | None) -> float | None:
    """A decimal or hexadecimal ('0x…') number; None for anything else."""
    with contextlib.suppress(TypeError, ValueError):
        return float(int(str(text), 16) if str(text).startswith("0x") else str(text))
    return None


def table(text: str | None, separator: str = ":") -> dict[str, str]:
    """Lines 'name: value' as a dictionary; the first of equal names counts."""
    values: dict[str, str] = {}
    for line in (text or "").splitlines():
        key, _, value = line.partition(separator)
        values.setdefault(key.strip(), value.strip())
    return values


def with_reasons(values: dict[str, Any], reasons: dict[str, str]) -> dict[str, Any]:
    """The values with `missing`: the reason of each one that is null."""
    return dict(values, missing={name: reason for name, reason in reasons.items() if values[name] is None})
