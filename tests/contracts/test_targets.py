"""What holds for every target: a file in targets/ is all it takes to be tested."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_project import PTQ, Project

from edgepack.core.errors import RecipeError, UnsupportedError
from edgepack.exporters import EXPORTERS
from edgepack.pipeline import build
from edgepack.plan import make_plan
from edgepack.runtimes import RUNTIMES
from edgepack.targets import NumericConstraints, load_target, target_names
from edgepack.verified import verify


@pytest.fixture
def runs_here(name: str, needs_runtime: Callable[[str], None]) -> None:
    """A target whose runtime is not on this machine can't be built for."""
    needs_runtime(load_target(name).runtime)


each_target = pytest.mark.parametrize("name", sorted(target_names()))


@each_target
def test_a_target_names_a_known_exporter_and_runtime(name: str) -> None:
    profile = load_target(name)

    assert profile.exporter in EXPORTERS
    assert profile.runtime in RUNTIMES
    assert profile.description


@each_target
def test_a_target_holds_no_address_or_person(name: str) -> None:
    text = target_names()[name].read_text()

    assert "@" not in text
    assert "://" not in text


@pytest.mark.usefixtures("runs_here")
@each_target
def test_a_target_builds_the_small_project(name: str, tiny_project: Callable[..., Project]) -> None:
    bundle = build(tiny_project(PTQ).folder, target=name)

    assert bundle.variant().target == name
    assert bundle.manifest.checks_passed
    assert verify(bundle.path).passed


@each_target
def test_a_targets_file_refuses_unknown_keys(name: str, tiny_project: Callable[..., Project]) -> None:
    project = tiny_project()
    (project.folder / "targets").mkdir()
    text = target_names()[name].read_text()
    (project.folder / "targets" / "own.toml").write_text(text.replace("[limits]", "[limits]\nthreds = 1"))

    with pytest.raises(
        RecipeError, match=r"targets/own\.toml: limits: unknown key 'threds' \(did you mean 'threads'\?\)"
    ):
        load_target("own", project.folder)


@pytest.mark.usefixtures("runs_here")
@each_target
def test_a_project_can_bring_a_target_of_its_own(name: str, tiny_project: Callable[..., Project]) -> None:
    project = tiny_project("")
    (project.folder / "targets").mkdir()
    (project.folder / "targets" / "own.toml").write_text(target_names()[name].read_text())

    plan, known = make_plan(project.folder, target="own"), make_plan(project.folder, target=name)

    assert plan.bundle_path.name == "tiny-1.0.0-own.edgepack"
    assert plan.target == known.target and plan.exporter == known.exporter and plan.runtime == known.runtime


@pytest.mark.parametrize("name", ["arm64", "intel", "x86_64"])
def test_a_target_of_a_projects_own_is_built_for_and_a_model_that_it_can_not_open_is_refused(
    name: str, tiny_project: Callable[..., Project]
) -> None:
    project = tiny_project("")
    (project.folder / "targets").mkdir()
    own, text = project.folder / "targets" / "own.toml", target_names()[name].read_text()
    own.write_text(text)
    assert build(project.folder, target="own").path.name == "tiny-1.0.0-own.edgepack"
    text = text.replace("model_bytes_max = 2_147_483_647", "")
    own.write_text(text.replace("[limits]", "[limits]\nmodel_bytes_max = 1000"))

    with pytest.raises(UnsupportedError, match=r"bytes; own opens at most 1,000"):
        build(project.folder, target="own")


def test_every_numeric_constraint_is_described() -> None:
    assert all(field.description for field in NumericConstraints.model_fields.values())
