"""docs/targets.md: every shipped target has its section, and every option of an exporter or runtime its row with the default."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edgepack.core.section import validate
from edgepack.exporters import EXPORTERS
from edgepack.runtimes import RUNTIMES
from edgepack.targets import SHIPPED, TargetProfile, target_names

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "targets.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    found = re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE)
    assert found is not None, f"docs/targets.md has no section '{title}'"
    return found[1]


def options(plug_in: Any) -> dict[str, Any]:
    """Each option's default, without what comes from the recipe."""
    fields = {name: field for name, field in plug_in.model_fields.items() if name != "options"}
    return {name: field.get_default(call_default_factory=True) for name, field in fields.items()}


def as_toml(value: Any) -> str:
    return "none" if value is None else f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


@pytest.mark.parametrize("name", sorted(file.stem for file in SHIPPED.glob("*.toml")))
def test_every_shipped_target_has_a_section_and_a_row(name: str) -> None:
    assert len(section(name)) > 200
    assert f"| [`{name}`](#{name}) |" in PAGE


@pytest.mark.parametrize("table", [EXPORTERS, RUNTIMES], ids=["exporters", "runtimes"])
def test_every_option_is_described_with_its_default(table: Any) -> None:
    rows = section("Options")
    expected = [
        f"| `{name}` | `{option}` | {as_toml(default)} | "
        for name in table.names()
        for option, default in options(table.load(name)).items()
    ]

    assert [row for row in expected if row not in rows] == []


def test_no_option_is_described_that_is_not_there() -> None:
    described = re.findall(r"(?m)^\| `(\w+)` \| `(\w+)` \|", section("Options"))

    known = [
        (name, key) for table in (EXPORTERS, RUNTIMES) for name in table.names() for key in options(table.load(name))
    ]
    assert sorted(described) == sorted(known)


def test_the_example_is_a_target() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", section("A target of your own"), re.DOTALL)

    profile = validate(TargetProfile, tomllib.loads(example), where="docs/targets.md")

    assert (profile.exporter in EXPORTERS, profile.runtime in RUNTIMES) == (True, True)
    assert "kiosk" not in target_names()


def test_targets_that_the_page_gives_one_grid_have_one() -> None:
    from edgepack.grouping import group_targets
    from edgepack.targets import load_target

    names = [file.stem for file in sorted(SHIPPED.glob("*.toml"))]
    groups = group_targets({name: load_target(name).quantization for name in names})

    told = {name: re.search(rf"(?m)^\| \[`{name}`\].*\| (\w) \|$", PAGE)[1] for name in names}  # type: ignore[index]
    for group in groups:
        assert len({told[name] for name in group.targets}) == 1, group.targets
    assert len(groups) == len(set(told.values()))
