"""The pages about the recipe are what the code says."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from edgepack.cli.reference import DOCS, pages
from edgepack.cli.schemas import recipe_schema, shipped_methods
from edgepack.methods import METHODS
from edgepack.recipe import CompressStep, Recipe

METHODS_PAGE = (DOCS / "methods.md").read_text(encoding="utf-8")


def blocks(page: str) -> list[dict[str, Any]]:
    return [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]


@pytest.mark.parametrize("name", pages())
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "run: make docs"


def test_the_example_of_the_recipe_page_is_valid() -> None:
    (example,) = blocks(pages()["recipe.md"])

    assert Recipe.model_validate(example).bundle.name == "digits"


@pytest.mark.parametrize("example", blocks(METHODS_PAGE))
def test_an_example_of_the_methods_page_is_valid(example: dict[str, Any]) -> None:
    assert set(example) == {"compress"}
    for table in example["compress"]:
        step = CompressStep.model_validate(table)
        kind: Any = METHODS.load(step.method)
        kind.model_validate(step.options())


@pytest.mark.parametrize("method", shipped_methods())
def test_every_method_is_explained(method: str) -> None:
    assert f"## `{method}`" in METHODS_PAGE


@pytest.mark.parametrize("method", shipped_methods())
def test_the_schema_knows_each_methods_options(method: str) -> None:
    definitions = recipe_schema()["$defs"]
    kind: Any = METHODS.load(method)

    place = definitions["CompressStep"]["discriminator"]["mapping"][method]
    step = definitions[place.rpartition("/")[2]]

    assert {"$ref": place} in definitions["CompressStep"]["oneOf"]
    assert step["properties"]["method"]["const"] == method
    assert set(step["properties"]) == {"method", *kind.model_fields}
    assert "method" in step["required"]
    assert step["additionalProperties"] is False


def test_every_reference_in_the_schema_has_a_definition() -> None:
    text = pages()["recipe.schema.json"]

    assert set(re.findall(r'"#/\$defs/(\w+)"', text)) <= set(recipe_schema()["$defs"])


def test_no_page_names_a_machine() -> None:
    for name in ("recipe.md", "recipe.schema.json", "methods.md", "cli.md"):
        text = (DOCS / name).read_text(encoding="utf-8")
        assert str(DOCS.parent) not in text
