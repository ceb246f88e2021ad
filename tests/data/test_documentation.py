"""docs/data.md shows recipes that edgepack accepts, and leaves nothing out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edgepack.agent.preprocess import OPS
from edgepack.data import PROVIDERS
from edgepack.data.samples import plain_steps
from edgepack.data.sections import open_provider
from edgepack.recipe import DataSection

_PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
_EXAMPLES = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", _PAGE, re.DOTALL)]


@pytest.mark.parametrize("example", _EXAMPLES)
def test_an_example_is_valid(tmp_path: Path, example: dict[str, Any]) -> None:
    for section in example.get("data", {}).values():
        open_provider(section if isinstance(section, str) else DataSection(**section), folder=tmp_path)

    plain_steps(example.get("preprocess", []))


def test_every_provider_and_op_is_described() -> None:
    missing = [name for name in (*PROVIDERS, *OPS) if f"`{name}`" not in _PAGE]

    assert not missing
