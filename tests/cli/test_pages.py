"""The pages of docs/ that describe the command line: generated ones are up to date, written ones leave nothing out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepack.cli import SECTIONS
from edgepack.cli.invocation import DEBUG_VARIABLE
from edgepack.cli.reference import pages
from edgepack.core.errors import INTERRUPTED_EXIT_CODE, EdgepackError
from edgepack.core.section import validate
from edgepack.methods import METHODS
from edgepack.recipe import CompressStep, Recipe

DOCS = Path(__file__).parents[2] / "docs"
METHODS_PAGE = (DOCS / "methods.md").read_text(encoding="utf-8")
EXAMPLES = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", METHODS_PAGE, re.DOTALL)]


@pytest.fixture(scope="module")
def cli_page() -> str:
    return (DOCS / "cli.md").read_text(encoding="utf-8")


def errors(kind: type[EdgepackError] = EdgepackError) -> Iterator[type[EdgepackError]]:
    yield kind
    for inner in kind.__subclasses__():
        if inner.__module__ == EdgepackError.__module__:
            yield from errors(inner)


def whole(example: dict[str, Any]) -> dict[str, Any]:
    """A recipe around the steps of an example."""
    data = {"provider": "npz", "file": "data.npz"}
    return {
        "bundle": {"name": "example"},
        "model": {"factory": "model:make", "inputs": [{"shape": [1, 8, 8]}]},
        "data": {"train": data, "evaluation": data},
        **example,
    }


def headings(text: str) -> set[str]:
    """The anchors that a page's headings get on GitHub."""
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"(?m)^#+ (.*)$", text)]
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", ["recipe.md", "recipe.schema.json", "manifest.schema.json"])
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "run: python -m edgepack.cli.reference"


def test_every_command_is_described(cli_page: str) -> None:
    for section in SECTIONS.values():
        for name in section:
            assert f"`edgepack {name}" in cli_page, name
            assert re.search(rf"(?m)^ *edgepack {name}\b", cli_page), f"no example of {name}"


def test_every_exit_code_is_in_the_table(cli_page: str) -> None:
    for kind in errors():
        assert f"| {kind.exit_code} | `{kind.__name__}` |" in cli_page
    for code in (0, INTERRUPTED_EXIT_CODE, 143, 129):
        assert f"| {code} |" in cli_page


@pytest.mark.parametrize(
    "name", [DEBUG_VARIABLE, "EDGEPACK_CACHE_DIR", "EDGEPACK_STORE", "EDGEPACK_TEST_DATA", "CXX", "NO_COLOR"]
)
def test_every_variable_is_described(cli_page: str, name: str) -> None:
    assert f"`{name}`" in cli_page


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_a_method_is_a_valid_recipe(example: dict[str, Any]) -> None:
    recipe = validate(Recipe, whole(example), where="docs/methods.md")

    assert recipe.compress
    for step in recipe.compress:
        assert isinstance(step, CompressStep)
        kind: Any = METHODS.load(step.method)
        validate(kind, step.options(), where="docs/methods.md")


@pytest.mark.parametrize("name", METHODS.names())
def test_every_option_of_a_method_is_named_on_its_page(name: str) -> None:
    kind: Any = METHODS.load(name)

    assert f"## `{name}`" in METHODS_PAGE
    for option in kind.model_fields:
        assert f"`{option}" in METHODS_PAGE, option


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_says_when_to_take_it_what_it_costs_and_whose_idea_it_is(name: str) -> None:
    section = METHODS_PAGE.partition("## Which to take")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| [")]

    ((_, when, cost, paper),) = [row for row in rows if row[0] == f"[`{name}`](#{name})"]

    assert when and cost
    (link, *_) = re.findall(r"\]\((https://arxiv\.org/abs/[\d.]+)\)", paper)
    (own,) = re.findall(rf"(?ms)^## `{name}`$(.*?)^## ", METHODS_PAGE)
    assert link in own


def test_links_between_pages_lead_somewhere() -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in (DOCS.parent / "README.md", *DOCS.rglob("*.md"))}
    prose = {page: re.sub(r"(?s)```.*?```", "", text) for page, text in pages.items()}

    lost = [
        f"{page.name}: {link}"
        for page, text in prose.items()
        for link in re.findall(r"\]\(([^)\s]+)\)", text)
        if not link.startswith("http")
        for path, _, heading in [link.partition("#")]
        for target in [(page.parent / path).resolve() if path else page]
        if not target.exists() or (heading and target in prose and heading not in headings(prose[target]))
    ]

    assert lost == []
