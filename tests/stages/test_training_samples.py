"""Samples to train on may have preprocessing steps of their own; what is measured and judged goes through the app's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgepack.core.errors import RecipeError
from edgepack.plan import BuildPlan, make_plan
from edgepack.stages.samples import open_role, samples_of, training_samples
from edgepack.tune.measure import on_selection
from tests.small_project import PRUNE_AND_QAT, Project

_OWN = 'preprocess = [{ op = "normalize", mean = 0.0, std = 4.0 }]\n'


@pytest.fixture
def project(tiny_project: Callable[..., Project]) -> Project:
    """One whose training samples have labels."""
    made = tiny_project(PRUNE_AND_QAT)
    images = np.load(made.folder / "train.npz")["x"]
    np.savez(made.folder / "train.npz", x=images, y=np.arange(len(images)) % 4)
    return made


def planned(project: Project, own: str = _OWN, *, role: str = "train", calibration: bool = True) -> BuildPlan:
    """The plan of the project with these keys in one of its data tables."""
    file = project.folder / "edgepack.toml"
    kept = file.read_text()
    text = kept.replace(f"[data.{role}]\n", f"[data.{role}]\n{own}")
    if not calibration:
        begin, end = text.index("[data.calibration]"), text.index("[data.evaluation]")
        text = text[:begin] + text[end:]
    file.write_text(text)
    try:
        return make_plan(project.folder)
    finally:
        file.write_text(kept)


def test_only_training_sees_samples_by_steps_of_their_own(project: Project) -> None:
    plain, own = planned(project, ""), planned(project)
    assert plain.train is not None and own.train is not None

    before, after = (training_samples(plan, plan.train).take(slice(0, 8)) for plan in (plain, own) if plan.train)
    np.testing.assert_allclose(after.inputs["image"], before.inputs["image"] / 4)
    for role in ("calibration", "evaluation"):
        one, other = (samples_of(plan, getattr(plan, role)).inputs["image"] for plan in (plain, own))
        np.testing.assert_array_equal(one, other)


def test_steps_of_their_own_are_a_part_of_what_training_samples_are(project: Project) -> None:
    plain, own = planned(project, ""), planned(project)
    assert plain.train is not None and own.train is not None

    assert own.train.fingerprint != plain.train.fingerprint
    assert own.calibration.fingerprint == plain.calibration.fingerprint


def test_calibration_on_training_samples_sees_them_as_an_app_does(project: Project) -> None:
    plain, own = (planned(project, steps, calibration=False) for steps in ("", _OWN))

    assert own.calibration.fingerprint == plain.calibration.fingerprint
    one, other = (samples_of(plan, plan.calibration).inputs["image"] for plan in (plain, own))
    np.testing.assert_array_equal(one, other)


def test_trials_of_a_search_are_judged_as_an_app_sees_samples(project: Project) -> None:
    plain, own = (
        on_selection(planned(project, f'y = "y"\n{steps}')) for steps in ("", _OWN)
    )  # a part of the training samples, held out

    one, other = (open_role(plan, plan.evaluation).all().inputs["image"] for plan in (plain, own))
    np.testing.assert_array_equal(one, other)
    assert own.train is not None and plain.train is not None
    learned, told = (training_samples(plan, plan.train).take(slice(0, 4)) for plan in (own, plain) if plan.train)
    np.testing.assert_allclose(learned.inputs["image"], told.inputs["image"] / 4)


@pytest.mark.parametrize("role", ["calibration", "evaluation"])
def test_steps_of_their_own_are_refused_where_nobody_trains(project: Project, role: str) -> None:
    with pytest.raises(RecipeError, match=f"data.{role}: 'preprocess' is for data.train"):
        planned(project, role=role)


def test_a_wrong_step_is_told_with_its_table(project: Project) -> None:
    with pytest.raises(RecipeError, match=r"data.train: .*'resise'"):
        planned(project, 'preprocess = [{ op = "resise" }]\n')
