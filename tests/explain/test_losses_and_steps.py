"""What is measured when asked: each layer's sensitivity and share of the loss, and what each step bought; on the small project."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_project import PTQ, Project, copy_built

from edgepack.core.errors import DataError, RecipeError, UsageError
from edgepack.core.types import Silent
from edgepack.explain import Account, Sensitivity, explain
from edgepack.explain.account import csv_rows
from edgepack.explain.draw_losses import share_figure, steps_figure
from edgepack.explain.page import explain_page
from edgepack.pipeline import build
from edgepack.store.cache import StageCache

Built = Callable[[str], Project]
ASKED = Sensitivity(bits=4, samples=8, points=True)


@pytest.fixture(scope="module")
def project(built_project: Built, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Explaining writes into the work folder, so this is a copy."""
    return copy_built(built_project(PTQ), tmp_path_factory.mktemp("asked") / "project")


def bundle_of(project: Project) -> Path:
    return project.folder / "dist" / "tiny-1.0.0-arm64.edgepack"


@pytest.fixture(scope="module")
def account(project: Project) -> Account:
    return explain(bundle_of(project), profile="fast", sensitivity=ASKED, steps=True)


def test_every_layer_has_a_sensitivity_and_a_share_and_shares_make_the_whole(account: Account) -> None:
    losses, shares = account.losses, [one.loss.share for one in account.layers if one.loss is not None]

    assert losses is not None and losses.distance is not None and losses.distance > 0
    assert (losses.bits, losses.samples) == (4, 8)
    assert losses.other_share is not None and losses.activations_share is not None
    known = [share for share in shares if share is not None]
    assert len(known) == len(account.layers)
    assert sum(known) + losses.other_share + losses.activations_share == pytest.approx(1)
    for one in account.layers:
        assert one.loss is not None and one.loss.sensitivity is not None and one.loss.alone is not None
        # Rounded to 8 bits a layer moves the outputs less than rounded to 4.
        assert 0 <= one.loss.alone < one.loss.sensitivity
        assert one.loss.points is not None and one.loss.points_ci95 is not None
        assert one.loss.points_ci95[0] <= one.loss.points <= one.loss.points_ci95[1]


def test_where_no_points_were_lost_there_is_no_share_of_them_and_that_is_said(account: Account) -> None:
    assert account.losses is not None and account.losses.points == 0
    for one in account.layers:
        assert one.loss is not None and one.loss.points_share is None
        assert "no points" in one.unknown["loss_points_share"]


def test_the_steps_begin_with_the_original_and_end_with_what_ships(account: Account) -> None:
    steps = account.steps

    assert steps is not None and steps.failed == {}
    assert [one.step for one in steps.rows] == ["original", "quantize"]
    first, last = steps.rows
    assert (first.precision, last.precision) == ("float32", "int8")
    assert last.file_bytes == account.model_bytes
    assert first.file_bytes == account.original_bytes
    assert last.coded_bytes < first.coded_bytes
    assert first.parameters == last.parameters == account.totals.parameters
    assert last.nonzero_parameters == account.totals.nonzero_parameters
    assert last.macs == account.totals.macs
    assert account.quality is not None
    assert last.accuracy == account.quality.value and steps.samples == account.quality.samples
    assert first.drop_points == 0 and last.drop_ci95[0] <= last.drop_points <= last.drop_ci95[1]
    assert last.latency_p50_ms is None and "--latency" in last.unknown["latency_p50_ms"]


def test_what_was_measured_once_is_read_again(project: Project, account: Account) -> None:
    before = project.stages()

    again = explain(bundle_of(project), profile="fast", sensitivity=ASKED, steps=True)

    assert json.dumps(again.as_dict()) == json.dumps(account.as_dict())
    assert project.stages() == before
    made = {one.stage for one in StageCache(project.work).entries()}
    assert {"sensitivity", "loss-shares", "loss-points"} <= made


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class Watching(Silent):
    """Remembers the layers whose points were measured, and ends the process after some of them."""

    def __init__(self, ends_after: int | None = None) -> None:
        super().__init__()
        self.ends_after, self.what, self.measured = ends_after, "", list[str]()

    def start(self, what: str, *, total: int | None = None) -> None:
        self.what = what

    def advance(self, units: int = 1, *, note: str = "") -> None:
        if self.what.startswith("Points") and note:
            self.measured.append(note.partition(" ")[0])
            if len(self.measured) == self.ends_after:
                raise Killed


def test_points_that_were_interrupted_go_on_at_the_layer_where_they_were(
    built_project: Built, tmp_path: Path, account: Account
) -> None:
    path = bundle_of(copy_built(built_project(PTQ), tmp_path / "project"))
    first, second = Watching(ends_after=2), Watching()
    with pytest.raises(Killed):
        explain(path, profile="fast", sensitivity=ASKED, progress=first)

    found = explain(path, profile="fast", sensitivity=ASKED, progress=second)

    assert len(first.measured) == 2 and len(second.measured) == len(account.layers) - 2
    assert not set(first.measured) & set(second.measured)
    assert [one.loss for one in found.layers] == [one.loss for one in account.layers]


def test_pictures_table_and_json_hold_what_was_asked(account: Account) -> None:
    page = explain_page([account])

    assert "Sensitivity by layer" in page and "Share of the loss by layer" in page
    assert "Size against quality from step to step" in page
    assert "4 bits, mean of 8 calibration samples" in page
    rows = csv_rows([account])
    assert all(row["sensitivity"] > 0 and row["loss_share"] is not None for row in rows)
    assert account.steps is not None and "NaN" not in steps_figure(account.steps, "c0")


def test_nothing_asked_says_how_to_ask(project: Project) -> None:
    plain = explain(bundle_of(project), profile="fast")

    assert plain.losses is None and plain.steps is None
    assert "--sensitivity" in plain.unknown["losses"] and "--steps" in plain.unknown["steps"]
    assert share_figure(plain, "c0") is None
    assert "Step by step" not in explain_page([plain])


def test_steps_that_the_target_could_not_take_are_named_on_the_page(account: Account) -> None:
    assert account.steps is not None
    failed = replace(account, steps=replace(account.steps, failed={"low_rank": "no such operator"}))

    assert "no such operator" in explain_page([failed])


def test_without_the_work_folder_the_way_out_is_said(project: Project, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--work-dir"):
        explain(bundle_of(project), profile="fast", sensitivity=ASKED, work_folder=tmp_path / "nowhere")


def test_samples_that_are_gone_are_named(built_project: Built, tmp_path: Path) -> None:
    project = copy_built(built_project(PTQ), tmp_path / "project")
    (project.folder / "train.npz").unlink()

    with pytest.raises(DataError, match=r"train\.npz"):
        explain(bundle_of(project), profile="fast", sensitivity=ASKED)


def test_a_folder_without_the_recipe_asks_for_it(built_project: Built, tmp_path: Path) -> None:
    project = copy_built(built_project(PTQ), tmp_path / "project")
    project.recipe.unlink()

    with pytest.raises(RecipeError, match="--recipe"):
        explain(bundle_of(project), profile="fast", sensitivity=ASKED)


def test_the_recipe_of_the_build_is_found_among_others(built_project: Built, tmp_path: Path) -> None:
    project = copy_built(built_project(PTQ), tmp_path / "project")
    project.recipe.rename(project.folder / "other.toml")
    project.recipe.write_text("nothing = 1\n")

    found = explain(bundle_of(project), profile="fast", steps=True)

    assert found.steps is not None and [one.step for one in found.steps.rows] == ["original", "quantize"]


def test_a_recipe_changed_since_leaves_the_sensitivity_and_says_why_the_rest_is_unknown(
    built_project: Built, tmp_path: Path
) -> None:
    project = copy_built(built_project(PTQ), tmp_path / "project")
    project.replace("seed = 0", "seed = 5")
    path = bundle_of(project)

    found = explain(path, profile="fast", sensitivity=replace(ASKED, points=False))

    assert all(one.loss is not None and one.loss.sensitivity is not None for one in found.layers)
    assert all(one.loss is not None and one.loss.share is None for one in found.layers)
    assert "edgepack build" in found.unknown["loss_share"]
    with pytest.raises(UsageError, match="edgepack build"):
        explain(path, profile="fast", steps=True)


def test_other_weights_than_those_of_the_build_are_refused(built_project: Built, tmp_path: Path) -> None:
    project = copy_built(built_project(PTQ), tmp_path / "project")
    state = project.state()
    state["classifier.bias"] += 1
    project.write_state(state)

    with pytest.raises(UsageError, match="other weights"):
        explain(bundle_of(project), profile="fast", sensitivity=ASKED)


STUDENT = """
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.classifier = nn.Linear(6, 4)

    def forward(self, image):
        return self.classifier(self.stem(image).relu().mean((2, 3)))


def make():
    return Small()
"""
DISTILL = (
    '[[compress]]\nmethod = "distill"\nfactory = "student:make"\n[compress.train]\nsteps = 20\nlearning_rate = 0.02\n'
)


@pytest.mark.slow
def test_layers_of_a_student_are_told_against_the_student(tiny_project: Callable[..., Project]) -> None:
    """The original has other layers; some even have the same names."""
    project = tiny_project(DISTILL + PTQ)
    (project.folder / "student.py").write_text(STUDENT)
    build(project.folder, allow_failed_checks=True)

    found = explain(bundle_of(project), profile="fast", sensitivity=replace(ASKED, points=False), steps=True)

    assert found.losses is not None and found.losses.reference == "student"
    assert {one.name for one in found.layers} == {"stem", "classifier"}
    assert all(one.loss is not None and one.loss.sensitivity is not None for one in found.layers)
    assert found.losses.distance is not None and found.losses.distance < 0.05
    assert found.steps is not None
    assert [one.step for one in found.steps.rows] == ["original", "distill", "quantize"]
    assert found.steps.rows[0].parameters > found.steps.rows[1].parameters == 6 * 9 + 6 + 6 * 4 + 4


@pytest.mark.slow
def test_channels_products_and_order_keep_their_shares_and_their_steps(tiny_project: Callable[..., Project]) -> None:
    train = "[compress.train]\nsteps = 6\nbatch_size = 8\nlearning_rate = 1e-4\n"
    prune = f'[[compress]]\nmethod = "prune_channels"\nsparsity = 0.3\nrounds = 1\n{train}'
    factor = f'[[compress]]\nmethod = "low_rank"\nenergy = 0.7\n{train}'
    project = tiny_project(prune + factor + '[[compress]]\nmethod = "sort_channels"\n' + PTQ)
    build(project.folder, allow_failed_checks=True)

    found = explain(bundle_of(project), profile="fast", sensitivity=ASKED, steps=True)

    assert found.steps is not None and found.losses is not None
    assert [one.step for one in found.steps.rows] == [
        "original",
        "prune_channels",
        "low_rank",
        "sort_channels",
        "quantize",
    ]
    assert found.steps.rows[1].parameters < found.steps.rows[0].parameters
    told = [one for one in found.layers if one.loss is not None and one.loss.share is not None]
    assert {one.name.partition(".")[0] for one in told} == {"stem", "block", "down", "classifier"}
    whole = sum(one.loss.share for one in told if one.loss is not None and one.loss.share is not None)
    rest = (found.losses.other_share or 0) + (found.losses.activations_share or 0)
    assert whole + rest == pytest.approx(1)
    others = [one for one in found.layers if one not in told]
    assert others and all("factor" in one.unknown["loss_share"] for one in others)
