"""Builds that are killed, interrupted, run at once or find damaged files: they end in the same bytes, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_project import PRUNE_AND_QAT, Building, Project, Recorder, copy_built

from edgepack.core.errors import INTERRUPTED_EXIT_CODE
from edgepack.pipeline import build
from edgepack.store.cache import StageCache

Built = Callable[[str], Project]
Make = Callable[..., Project]
# Long enough to be killed in the middle of: 6 epochs of 5 steps each.
LONG = PRUNE_AND_QAT.replace("steps = 8\nbatch_size = 8", "epochs = 6\nbatch_size = 10\nholdout = 0.1")
PRUNING, TRAINING = "Pruning to 50% zeros", "Quantization-aware training"


@pytest.fixture(scope="module")
def whole(built_project: Built) -> Project:
    """A build that nobody disturbed."""
    return built_project(LONG)


def bundle_of(project: Project) -> Path:
    return project.folder / "dist" / "tiny-1.0.0-arm64.edgepack"


def stage_names(project: Project) -> set[str]:
    return {name.rpartition("-")[0] for name in project.stages()}


def first_step(building: Building, what: str) -> int:
    """How many steps a training had behind it when it began."""
    return int(next(line.split()[1] for line in building.lines if line.startswith("at ") and line.endswith(what)))


@pytest.fixture
def loaded_project(tiny_project: Make, whole: Project) -> Make:
    """Makes small projects whose model was loaded and checked on its target: a build that is killed comes to its training in half the time."""

    def make(steps: str) -> Project:
        project = tiny_project(steps)
        project.take(whole, "load", "baseline", "check")
        return project

    return make


# What the killed build was at, what must be finished by then, and what may not be started again.
MOMENTS = {
    "pruning": (f"at 5 {PRUNING}", {"load", "baseline"}, "Loading the model"),
    "pruning-epoch-3": (f"at 13 {PRUNING}", {"load", "baseline"}, "Checking that the target"),
    "ranges": ("start Measuring ranges (PTQ)", {"prune_magnitude"}, PRUNING),
    "training": (f"at 14 {TRAINING}", {"prune_magnitude"}, PRUNING),
    "converting": ("start Converting", {"quantize"}, TRAINING),
    "evaluating": ("start Evaluating", {"export"}, "Converting"),
    "packing": ("start Packing", {"verify"}, "Evaluating"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_build_that_was_killed_goes_on_and_ends_in_the_same_bytes(
    tiny_project: Make, loaded_project: Make, whole: Project, moment: str
) -> None:
    at, finished, not_again = MOMENTS[moment]
    project = tiny_project(LONG) if moment == "pruning" else loaded_project(LONG)
    if moment in ("evaluating", "packing"):
        project.take(whole, "prune_magnitude", "quantize", "export")  # the other moments make them
    killed = Building(project)
    killed.wait_for(lambda line: line.startswith(at))
    assert killed.kill() == -signal.SIGKILL
    before = project.stages()
    assert not bundle_of(project).exists()
    assert finished <= stage_names(project)

    progress = Recorder()
    bundle = build(project.folder, progress=progress)

    assert bundle.path.read_bytes() == bundle_of(whole).read_bytes()
    assert project.stages().items() >= before.items()  # none was made again
    assert not any(what.startswith(not_again) for what in progress.started)
    assert list((project.work / "progress").glob("*")) == []
    # Steps that a checkpoint holds are not done again.
    if moment == "pruning-epoch-3":
        assert progress.advanced[PRUNING][0] >= 10
    if moment == "training":
        assert progress.advanced[TRAINING][0] >= 10


def test_an_unfinished_folder_is_never_taken_for_a_stage(loaded_project: Make) -> None:
    project = loaded_project(LONG)
    killed = Building(project)
    killed.wait_for(f"at 8 {PRUNING}")
    killed.kill()

    parts = list((project.work / "stages").glob(".part-*"))

    assert len(parts) == 1
    cache = StageCache(project.work)
    assert {entry.stage for entry in cache.entries()} == {"load", "baseline", "check"}
    cache.prune(older_than_days=30)
    assert not parts[0].exists()


def test_two_builds_in_one_work_folder_share_the_work(tiny_project: Make, whole: Project) -> None:
    project = tiny_project(LONG)
    builds = [Building(project), Building(project)]

    for one in builds:
        one.end()

    assert bundle_of(project).read_bytes() == bundle_of(whole).read_bytes()
    started = [what for one in builds for what in one.started]
    for what in (PRUNING, TRAINING, "Converting to LiteRT", "Packing the bundle"):
        assert started.count(what) == 1, what
    notes = [line for one in builds for line in one.lines if line.startswith("note ")]
    assert any("is doing this; waiting for its result" in note for note in notes)


def test_two_builds_in_two_work_folders_do_not_disturb_each_other(
    tiny_project: Make, whole: Project, tmp_path: Path
) -> None:
    project = tiny_project(LONG)
    builds = [Building(project, tmp_path / f"work{n}", tmp_path / f"dist{n}") for n in (1, 2)]

    for one in builds:
        one.end()

    assert {one.bundle.read_bytes() for one in builds} == {bundle_of(whole).read_bytes()}
    assert all(one.started.count(PRUNING) == 1 for one in builds)


def test_a_build_waits_for_a_killed_one_not_for_ever(loaded_project: Make, whole: Project) -> None:
    project = loaded_project(LONG)
    first = Building(project)
    first.wait_for(f"at 11 {PRUNING}")
    os.killpg(first.process.pid, signal.SIGSTOP)  # it holds its lock while it stands still
    second = Building(project)
    second.wait_for("note prune_magnitude: process")
    first.kill()

    second.end()

    assert second.bundle.read_bytes() == bundle_of(whole).read_bytes()
    assert first_step(second, PRUNING) >= 10


def test_an_interrupt_raises_keyboard_interrupt_and_leaves_a_clean_state(loaded_project: Make, whole: Project) -> None:
    project = loaded_project(LONG)
    building = Building(project)
    building.wait_for(f"at 12 {PRUNING}")

    code = building.kill(signal.SIGINT)

    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in building.error
    assert list((project.work / "stages").glob(".part-*")) == []
    progress = Recorder()
    assert build(project.folder, progress=progress).path.read_bytes() == bundle_of(whole).read_bytes()
    assert progress.advanced[PRUNING][0] >= 10


def test_the_console_ends_an_interrupted_build_with_130(tiny_project: Make) -> None:
    import subprocess
    import sys

    project = tiny_project(LONG)
    process = subprocess.Popen(
        [sys.executable, "-m", "edgepack", "build", "--recipe", str(project.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (project.work / "stages").is_dir():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)

    process.send_signal(signal.SIGINT)

    told, _ = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED_EXIT_CODE
    assert "interrupted; finished stages are kept" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("stage", ["load", "prune_magnitude", "quantize", "export", "verify", "bundle"])
def test_a_damaged_stage_is_noticed_and_made_again(whole: Project, tmp_path: Path, stage: str) -> None:
    project = copied(whole, tmp_path)
    folder = next((project.work / "stages").glob(f"{stage}-*"))
    largest = max(
        (file for file in folder.iterdir() if file.name != "stage.json"), key=lambda file: file.stat().st_size
    )
    os.truncate(largest, largest.stat().st_size // 2)
    bundle_of(project).unlink()
    before = project.stages()

    bundle = build(project.folder)

    assert bundle.path.read_bytes() == bundle_of(whole).read_bytes()
    after = project.stages()
    assert {name.rpartition("-")[0] for name in after if after[name] != before.get(name)} == {stage}


@pytest.mark.parametrize("content", ["", "{", '{"files": 3}'])
def test_a_damaged_record_of_a_stage_is_noticed_and_made_again(whole: Project, tmp_path: Path, content: str) -> None:
    project = copied(whole, tmp_path)
    for name in ("verify", "bundle"):
        (next((project.work / "stages").glob(f"{name}-*")) / "stage.json").write_text(content)

    assert {entry.stage for entry in StageCache(project.work).entries()} >= {"load", "export"}
    assert build(project.folder).path.read_bytes() == bundle_of(whole).read_bytes()


def test_a_damaged_checkpoint_costs_the_steps_but_not_the_build(loaded_project: Make, whole: Project) -> None:
    project = loaded_project(LONG)
    killed = Building(project)
    killed.wait_for(f"at 12 {PRUNING}")
    killed.kill()
    checkpoint = next((project.work / "progress").glob("*/checkpoint.pt"))
    os.truncate(checkpoint, checkpoint.stat().st_size // 2)
    progress = Recorder()

    bundle = build(project.folder, progress=progress)

    assert bundle.path.read_bytes() == bundle_of(whole).read_bytes()
    assert progress.advanced[PRUNING][0] == 0
    assert any("checkpoint" in note and "damaged" in note for note in progress.notes)


def test_a_bundle_that_was_damaged_in_dist_is_replaced(whole: Project, tmp_path: Path) -> None:
    project = copied(whole, tmp_path)
    bundle_of(project).write_bytes(b"half")

    assert build(project.folder).path.read_bytes() == bundle_of(whole).read_bytes()


def copied(project: Project, to: Path) -> Project:
    copy = copy_built(project, to / "project")
    build(copy.folder)
    return copy
