from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack.core.errors import EnvironmentProblem
from edgepack.runtimes import RUNTIMES

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.fixture(scope="session")
def documented() -> Callable[..., bool]:
    """Whether a name is written in some page of docs/: as code, or `as_word` in any spelling of its case."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted(DOCS.rglob("*.md")))

    def has(name: str, *, as_word: bool = False) -> bool:
        if as_word:
            return re.search(rf"(?i)\b{re.escape(name)}\b", text) is not None
        return re.search(rf"[`\"']{re.escape(name)}[`\"'.]", text) is not None

    return has


@pytest.fixture(scope="session")
def needs_runtime() -> Callable[[str], None]:
    """Skips a test where a runtime is not installed: only those that live outside edgepack's own environment may be missing."""

    def check(name: str) -> None:
        try:
            RUNTIMES.load(name)().version()
        except EnvironmentProblem as exc:
            pytest.skip(f"runtime {name}: {exc}")

    return check
