"""The study keeps what is finished, whatever happens to the processes that use it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.recipe import CompressStep, TuneSection
from edgepack.tune.budget import budget_of
from edgepack.tune.front import LAST, candidates, rows_of
from edgepack.tune.numbers import Numbers
from edgepack.tune.study import Trial, begin, begun, open_study, trials_of

BUDGET = budget_of(TuneSection.model_validate({"max_size": 100, "max_drop_points": 1.0}))
# One trial is finished, the next one has climbed a rung when the process is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
from edgepack.recipe import CompressStep, TuneSection
from edgepack.tune.budget import budget_of
from edgepack.tune.numbers import Numbers
from edgepack.tune.study import begin, keep_numbers, keep_steps, open_study

study = open_study(Path(sys.argv[1]), budget_of(TuneSection.model_validate({"max_size": 100, "max_drop_points": 1.0})))
begin(study, [{"x": 0.25}, {"x": 0.75}, {"x": 1.0}])
for number in range(2):
    trial = study.ask()
    sparsity = trial.suggest_float("x", 0, 1)
    keep_steps(trial, [CompressStep(method="prune_magnitude", sparsity=sparsity)])
    keep_numbers(trial, 0, Numbers(wire_bytes=90, file_bytes=90, accuracy=0.9, drop_points=0.5))
    if number:
        os.kill(os.getpid(), signal.SIGKILL)
    study.tell(trial, [90, 0.5])
"""


def test_after_a_kill_finished_trials_are_kept_and_the_unfinished_one_is_tried_again(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    study = open_study(tmp_path, BUDGET)
    begin(study, [{"x": 0.0}])  # not fresh: these are not tried

    finished, *waiting = trials_of(study)
    assert finished.state == "done" and finished.rungs[0].wire_bytes == 90
    assert finished.steps == (CompressStep.model_validate({"method": "prune_magnitude", "sparsity": 0.25}),)
    assert [trial.state for trial in waiting] == ["waiting", "waiting"]
    assert begun(study) == 1
    assert sorted(study.ask().suggest_float("x", 0, 1) for _ in range(2)) == [0.75, 1.0]


def trial(number: int, rung: int, size: int, drop: float) -> Trial:
    found = Numbers(wire_bytes=size, file_bytes=size, accuracy=0.9, drop_points=drop)
    step = CompressStep.model_validate({"method": "prune_magnitude", "sparsity": 0.1 + number / 100})
    return Trial(number=number, state="done", steps=(step,), rungs={rung: found}, error="")


def test_the_front_is_of_those_that_were_fully_trained() -> None:
    trials = [trial(0, LAST, 90, 0.5), trial(1, LAST, 95, 0.6), trial(2, 0, 10, 0.0), trial(3, LAST, 40, 3.0)]
    trials += [trial(4, LAST, 101, 0.0), trial(5, LAST, 90, 3.5)]

    rows = rows_of(trials, BUDGET)

    assert [row.trial.number for row in rows] == [0, 1, 4, 3, 5, 2]
    assert [row.trial.number for row in rows if row.on_front] == [0, 4, 3]
    assert rows[3].over == "drop_points = 3, limit 1"


def test_the_final_judgement_looks_at_what_keeps_the_budget_then_at_what_only_loses_too_much() -> None:
    trials = [trial(0, LAST, 90, 0.5), trial(1, LAST, 95, 0.4), trial(2, 0, 10, 0.0), trial(3, LAST, 40, 3.0)]
    trials += [trial(4, LAST, 101, 0.0), trial(5, LAST, 90, 3.5), trial(6, 0, 10, 1.2)]

    assert [row.trial.number for row in candidates(rows_of(trials, BUDGET), BUDGET)] == [1, 0, 3, 2, 6]


@pytest.mark.parametrize("twice", [(0, 1), (1, 0)])
def test_a_combination_that_was_tried_twice_is_judged_once(twice: tuple[int, int]) -> None:
    first = trial(0, LAST, 90, 0.5)
    again = Trial(number=1, state="done", steps=first.steps, rungs=first.rungs, error="")
    trials = [[first, again][index] for index in twice]

    assert len(candidates(rows_of(trials, BUDGET), BUDGET)) == 1
