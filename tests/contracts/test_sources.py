"""What holds for every source: one line in the table is all it takes to be tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.core.errors import RecipeError, SourceError
from edgepack.recipe import ModelSection
from edgepack.sources import KIND_OF_FOLDER, KIND_OF_SUFFIX, SOURCES, kind_of, open_source
from edgepack.sources.protocol import Abilities

each_source = pytest.mark.parametrize("name", SOURCES.names())
each_file_source = pytest.mark.parametrize("name", [name for name in SOURCES.names() if name != "torch_factory"])


@each_source
def test_a_source_loads_and_has_what_the_protocol_asks(name: str) -> None:
    source = SOURCES.load(name)

    assert all(callable(getattr(source, method)) for method in ("files", "inputs", "load", "builder"))
    assert isinstance(source.abilities, Abilities)


@each_source
def test_what_a_source_cannot_do_has_a_reason(name: str) -> None:
    able = SOURCES.load(name).abilities

    assert (able.quantizes and able.trains) == (able.reason == "")
    assert able.quantizes or not able.trains


@each_file_source
def test_a_file_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    source = open_source(ModelSection(file="nowhere.bin", kind=name), tmp_path)

    with pytest.raises(SourceError, match=r"model\.file: no file .*nowhere\.bin"):
        source.files()


def test_every_suffix_belongs_to_a_source() -> None:
    assert {*KIND_OF_SUFFIX.values(), *KIND_OF_FOLDER.values()} <= set(SOURCES.names())


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"model\.file: model\.pkl is none of"):
        kind_of(ModelSection(file="model.pkl"), tmp_path)


def test_an_unknown_kind_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.kind: unknown source 'torch_factry' \(did you mean 'torch_factory'"):
        kind_of(ModelSection(file="model.pkl", kind="torch_factry"), tmp_path)
