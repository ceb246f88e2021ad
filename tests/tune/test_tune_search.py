"""`edgepack tune` from a recipe to the bundle that it recommends."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from small_project import PRUNE_AND_QAT, PTQ, Project

from edgepack.bundle import read_bundle
from edgepack.cli import app
from edgepack.core.errors import BudgetNotMet, RecipeError, UsageError
from edgepack.plan import make_plan
from edgepack.recipe import Recipe, load_recipe
from edgepack.tune import Found, tune
from edgepack.tune.measure import on_selection
from edgepack.tune.page import page
from edgepack.tune.plot import text_plot
from edgepack.tune.space import searched_methods
from edgepack.tune.study import FILE, open_study, trials_of
from edgepack.tune.suggest import Space
from edgepack.tune.tuned import write_tuned

Make = Callable[..., Project]
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/edgepack.toml"))
LABELLED = ('file = "train.npz"\n\n[data.calibration]', 'file = "train.npz"\ny = "y"\n\n[data.calibration]')
# Nothing is trained: the quickest search that goes all the way.
QUICK = '[tune]\nmethods = ["sort_channels"]\nmax_size = "20 kB"\nmax_drop_points = 20.0\n'


def labelled(tiny_project: Make, steps: str, extra: str, **more: Any) -> Project:
    project = tiny_project(steps, extra=extra, **more)
    project.replace(*LABELLED)
    return project


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, project_files: Project) -> Project:
    """One project for several searches, so that they share what is made."""
    project = project_files.copy(tmp_path_factory.mktemp("searched") / "project")
    project.write_recipe(PTQ, extra=QUICK)
    project.replace(*LABELLED)
    return project


def call(project: Project, *arguments: str) -> tuple[int, str, str]:
    command = ["tune", "--recipe", str(project.folder), "--target", "x86_64", *arguments]
    result = CliRunner().invoke(app, command, env={"NO_COLOR": "1", "COLUMNS": "160"}, prog_name="edgepack")
    return result.exit_code, result.stdout, result.stderr


def test_a_search_ends_with_a_front_a_recipe_and_its_bundle(searched: Project) -> None:
    code, out, error = call(searched, "--trials", "2", "--json")

    assert code == 0, error
    found = json.loads(out)
    tuned = Path(found["chosen"]["recipe"])
    bundle = read_bundle(Path(found["chosen"]["bundle"]))
    assert found["met"] and len(found["trials"]) == 2
    assert tuned == searched.folder / "edgepack.tuned.toml"
    assert "# Budget: max_size 20,000, max_drop_points 20." in tuned.read_text()
    recipe = load_recipe(tuned)
    assert [step.method for step in recipe.compress] == [step["method"] for step in found["chosen"]["steps"]]
    assert recipe.budget.drop_points == 20.0
    assert bundle.variant().model.total_bytes == found["chosen"]["final"]["file_bytes"]
    rows = list(csv.DictReader(Path(found["csv"]).read_text().splitlines()))
    assert {row["trial"] for row in rows} == {"0", "1"} and sum(row["chosen"] == "1" for row in rows) == 1
    picture = ElementTree.parse(found["svg"])
    assert picture.getroot().tag.endswith("svg") and len(list(picture.iter())) > 20
    html = Path(found["html"]).read_text()
    assert "<svg" in html and not re.search(r"(src|href)=\"(?!data:)", html)

    again = json.loads(call(searched, "--trials", "2", "--json")[1])  # nothing is left to try

    assert again["trials"] == found["trials"]


def test_a_budget_that_is_not_met_has_its_own_exit_code_and_the_nearest_miss(searched: Project) -> None:
    (searched.folder / "edgepack.tuned.toml").unlink(missing_ok=True)

    code, out, error = call(searched, "--trials", "1", "--max-size", "200 B", "-q")

    assert code == BudgetNotMet.exit_code == 14
    assert out == ""
    assert re.search(
        r"no combination of 1 keeps the budget\. The nearest, .*: sort_channels \(size_bytes = \d+, limit 200\)", error
    )
    assert (searched.folder / "dist" / "tuned" / "tune.html").exists()
    assert not (searched.folder / "edgepack.tuned.toml").exists()


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (["--max-size", "0"], r"--max-size: Input should be greater than 0, got '0'"),
        (["--max-size", "60 bits"], r"--max-size: must be a size such as 60000, '60 kB' or '1.5 MB', got '60 bits'"),
        (["--max-drop-points", "-1"], r"--max-drop-points: .*greater than or equal to 0, got -1.0"),
    ],
)
def test_an_impossible_budget_is_refused_at_once(tiny_project: Make, limit: list[str], message: str) -> None:
    code, _, error = call(tiny_project(), *limit)

    assert code == UsageError.exit_code
    assert re.search(message, error)


def test_a_layer_that_is_not_there_is_refused_before_any_trial(searched: Project) -> None:
    recipe = load_recipe(searched.recipe)
    wrong = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"layers": ("clasifier",)})})

    with pytest.raises(
        RecipeError, match=r"tune.layers: the model has no layer 'clasifier' .*did you mean 'classifier'"
    ):
        tune(wrong, folder=searched.folder, target="x86_64")


def test_training_samples_without_labels_ask_for_a_selection(tiny_project: Make) -> None:
    code, _, error = call(tiny_project(), "--max-size", "60 kB")

    assert code == RecipeError.exit_code
    assert "held out of data.train, which have no labels" in error


def test_trials_are_judged_on_samples_that_train_none_and_judge_no_result(tiny_project: Make) -> None:
    from edgepack.stages.samples import open_role

    project = labelled(tiny_project, PTQ, QUICK)
    whole = make_plan(project.folder)

    plan = on_selection(whole)

    assert plan.train is not None and whole.train is not None
    rest, apart = open_role(plan, plan.train), open_role(plan, plan.evaluation, labelled=True)
    assert sorted([*rest.drawn, *apart.drawn]) == list(range(len(open_role(whole, whole.train))))
    assert len(apart) == round(0.2 * 48) and apart.role == "train"
    assert len(open_role(plan, plan.evaluation, first=1).all()) == 1


def test_a_selection_that_is_the_evaluation_is_refused(tiny_project: Make) -> None:
    project = labelled(
        tiny_project, PTQ, '[tune]\nselection = { provider = "npz", file = "evaluation.npz", y = "y" }\n'
    )

    with pytest.raises(RecipeError, match=r"tune.selection: these are the samples of data.evaluation"):
        on_selection(make_plan(project.folder))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_a_recommended_recipe_says_what_the_original_says(file: Path, tmp_path: Path) -> None:
    read = load_recipe(file)

    written = write_tuned(read, read.compress, tmp_path / "edgepack.tuned.toml", comments=["a line"])

    assert written == read
    assert (tmp_path / "edgepack.tuned.toml").read_text().startswith("# a line\n")


def test_values_of_all_kinds_survive_being_written(tmp_path: Path) -> None:
    read = Recipe.model_validate(
        tomllib.loads(EXAMPLES[0].read_text())
        | {
            "model": {
                "factory": "model:make",
                "args": {"a key": [1, 2.5, True], "täble": {"x": 'ü"\\'}},
                "inputs": [{"shape": [1]}],
            }
        }
    )

    assert write_tuned(read, (), tmp_path / "r.toml", comments=[]).model == read.model


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_without_losing_a_finished_trial(tiny_project: Make) -> None:
    project = labelled(tiny_project, PRUNE_AND_QAT, '[tune]\nmax_size = "6 kB"\nmax_drop_points = 60.0\n')
    command = [
        "-m",
        "edgepack",
        "tune",
        "--recipe",
        str(project.folder),
        "--target",
        "x86_64",
        "--workers",
        "2",
        "--trials",
        "4",
    ]
    killed = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    while "trained 100%" not in killed.stderr.readline():
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    time.sleep(1)  # the workers die with it
    (file,) = project.work.rglob(FILE)

    done = {one.number: one.rungs for one in trials_of(open_study(file.parent, budget(project))) if one.state == "done"}
    ended = subprocess.run([sys.executable, *command, "--json"], capture_output=True, text=True, timeout=600)

    assert done
    assert ended.returncode == 0, ended.stderr
    after = {one.number: one.rungs for one in trials_of(open_study(file.parent, budget(project)))}
    assert after.items() >= done.items()
    assert json.loads(ended.stdout)["met"]


@pytest.mark.slow
def test_the_search_ends_when_its_time_is_up_and_goes_on_later(tiny_project: Make) -> None:
    project = labelled(tiny_project, PRUNE_AND_QAT, '[tune]\nmax_size = "6 kB"\nmax_drop_points = 60.0\n')
    recipe = load_recipe(project.recipe)
    first = len(list(Space(recipe=recipe, methods=searched_methods(recipe), samples=40).starts()))

    tune(project.folder, target="x86_64", trials=1)  # what comes before the second trial is not to be timed
    short: Found = tune(project.folder, target="x86_64", trials=first, time_limit_s=25)
    longer = tune(project.folder, target="x86_64", trials=first)

    assert len(short.rows) < first
    assert {row.trial.number: row.numbers for row in longer.rows}.items() >= {
        row.trial.number: row.numbers for row in short.rows if row.trial.state == "done"
    }.items()
    assert len(longer.rows) + len(longer.failed) == first
    assert longer.chosen is not None and longer.chosen.bundle.exists()
    assert "◆" in text_plot(longer) and "Recommended" in page(longer)


def budget(project: Project) -> Any:
    from edgepack.tune.budget import budget_of

    return budget_of(load_recipe(project.recipe).tune)
