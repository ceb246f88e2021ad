from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

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
