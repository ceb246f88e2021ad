"""What holds for every source: one line in the table is all it takes to be tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_project import PRUNE_AND_QAT, PTQ, Building, Project
from sources.model_files import MODEL_FILES, use_file

from edgepack.bundle import Bundle
from edgepack.core.errors import RecipeError, SourceError, UnsupportedError
from edgepack.pipeline import build
from edgepack.plan import make_plan
from edgepack.recipe import ModelSection
from edgepack.sources import KIND_OF_FOLDER, KIND_OF_SUFFIX, SOURCES, kind_of, open_source
from edgepack.sources.protocol import Abilities

each_source = pytest.mark.parametrize("name", SOURCES.names())
each_file_source = pytest.mark.parametrize("name", [name for name in SOURCES.names() if name != "torch_factory"])


@pytest.fixture(scope="module")
def built_from_file(
    tmp_path_factory: pytest.TempPathFactory, project_files: Project
) -> Callable[[str], tuple[Project, Bundle]]:
    """The small project with its network in a file of a kind, and its bundle: built once, to read only."""
    made: dict[str, tuple[Project, Bundle]] = {}

    def get(name: str) -> tuple[Project, Bundle]:
        if name not in made:
            project = project_files.copy(tmp_path_factory.mktemp(name) / "project")
            project.write_recipe(steps_for(name))
            use_file(project, name)
            made[name] = project, build(project.folder)
        return made[name]

    return get


def steps_for(name: str) -> str:
    """Quantization where models of this source can be quantized."""
    return PTQ if SOURCES.load(name).abilities.quantizes else ""


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


@each_file_source
def test_a_file_without_inputs_in_the_recipe_is_planned(name: str, tiny_project: Callable[..., Project]) -> None:
    project = tiny_project(steps_for(name))
    use_file(project, name)

    plan = make_plan(project.folder)

    assert len(plan.inputs) == 1
    assert sorted(plan.inputs[0].shape) == [1, 8, 8]
    assert plan.inputs[0].dtype == "float32"


@each_file_source
def test_a_build_from_a_file_is_as_good_as_one_from_the_factory(
    name: str, built_from_file: Callable[[str], tuple[Project, Bundle]]
) -> None:
    _, bundle = built_from_file(name)

    assert bundle.variant().metric is not None
    assert abs(bundle.variant().metric.value - 1.0) <= 1 / 32 + 1e-9
    assert bundle.manifest.checks_passed


@each_file_source
def test_what_a_source_cannot_do_is_refused_by_the_plan(name: str, tiny_project: Callable[..., Project]) -> None:
    able = SOURCES.load(name).abilities
    for steps, can in ((PTQ, able.quantizes), (PRUNE_AND_QAT, able.trains)):
        project = tiny_project(steps, name=f"{name}{can}{len(steps)}")
        use_file(project, name)
        if can:
            make_plan(project.folder)
        else:
            with pytest.raises(UnsupportedError, match=r"compress\.0"):
                make_plan(project.folder)


@pytest.mark.slow
@each_file_source
def test_a_model_of_a_file_is_pruned_and_trained(name: str, tiny_project: Callable[..., Project]) -> None:
    if not SOURCES.load(name).abilities.trains:
        pytest.skip("this kind of source can't be trained")
    project = tiny_project(PRUNE_AND_QAT)
    use_file(project, name)

    assert build(project.folder).manifest.checks_passed


@each_file_source
def test_a_second_build_of_a_file_loads_no_framework(
    name: str, built_from_file: Callable[[str], tuple[Project, Bundle]]
) -> None:
    again = Building(built_from_file(name)[0])
    again.end()

    modules = next(line for line in again.lines if line.startswith("modules")).split()
    assert not {"torch", "nncf", "keras", "tensorflow"} & set(modules)


def test_every_file_source_is_tested() -> None:
    assert set(MODEL_FILES) == set(SOURCES.names()) - {"torch_factory"}
