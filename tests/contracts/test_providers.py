"""What holds for every sample provider and source; transports have a file of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepack.core.errors import EdgepackError, RecipeError
from edgepack.data import PROVIDERS
from edgepack.data.sections import open_provider
from edgepack.devices import TRANSPORTS
from edgepack.recipe import DataSection
from edgepack.sources import SOURCES

each_provider = pytest.mark.parametrize("name", PROVIDERS.names())


@each_provider
def test_a_provider_is_a_frozen_dataclass_whose_fields_are_its_options(name: str) -> None:
    provider: Any = PROVIDERS.load(name)

    assert dataclasses.is_dataclass(provider)
    assert provider.__dataclass_params__.frozen
    assert "recipe_folder" in {field.name for field in dataclasses.fields(provider)}
    assert provider.__doc__


@each_provider
def test_a_provider_refuses_an_unknown_option(name: str, tmp_path: Path) -> None:
    section = DataSection.model_validate({"provider": name, "no_such_option": 1})

    with pytest.raises(RecipeError, match=rf"provider '{name}': unknown option 'no_such_option'"):
        open_provider(section, folder=tmp_path)


@each_provider
def test_a_provider_suggests_the_nearest_option(name: str, tmp_path: Path) -> None:
    provider: Any = PROVIDERS.load(name)
    option = next(field.name for field in dataclasses.fields(provider) if field.name != "recipe_folder")
    section = DataSection.model_validate({"provider": name, f"{option}s_": 1})

    with pytest.raises(RecipeError, match=rf"\(did you mean '{option}'\?\)"):
        open_provider(section, folder=tmp_path)


@each_provider
def test_a_provider_is_documented_with_every_option(name: str, documented: Callable[[str], bool]) -> None:
    provider: Any = PROVIDERS.load(name)

    assert documented(name)
    for field in dataclasses.fields(provider):
        assert field.name == "recipe_folder" or documented(field.name), field.name


def test_an_unknown_provider_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"unknown provider 'nzp' \(did you mean 'npz'\?\)"):
        PROVIDERS.load("nzp")


@pytest.mark.parametrize("registry", [PROVIDERS, SOURCES, TRANSPORTS], ids=lambda registry: registry.kind)
def test_a_plug_in_that_does_not_exist_names_the_known_ones(registry: Any) -> None:
    with pytest.raises(EdgepackError, match=r"unknown \w+ 'zzz' \(known: "):
        registry.load("zzz")
