"""The work of a search: trials one after the other, in this process or in several that share the study."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.core.errors import EdgepackError
from edgepack.core.files import write_atomic
from edgepack.core.types import Progress, Silent
from edgepack.tune import ladder, study
from edgepack.tune.front import candidates, rows_of
from edgepack.tune.guess import SizeGuess
from edgepack.tune.measure import Judge
from edgepack.tune.suggest import Space

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from optuna.study import Study

WORKER_LOG = "worker.log"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_AFTER_TRAININGS, _AFTER_MIN, _AFTER_MAX = 2.0, 0.15, 0.35  # the last two as shares of the time limit


class TimeIsUp(Exception):
    """The search's time has ended in the middle of a trial, which stays unfinished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every worker needs. `until` is the time, as `time.time` tells it, when all is to be done, the final judgement, too; `began` when the search began.
    `trials` is how many there are to be in all."""

    judge: Judge
    folder: Path
    space: Space
    sampler: str
    seed: int
    workers: int
    trials: int
    until: float | None
    began: float

    def search_until(self, shared: Study) -> float | None:
        """When trials end: what comes after them takes about as long as the full training of the best one, made again on more samples, and its build."""
        if self.until is None:
            return None
        limit_s = self.until - self.began
        rows = candidates(rows_of(study.trials_of(shared), self.judge.budget), self.judge.budget)
        after_s = _AFTER_TRAININGS * rows[0].numbers.seconds if rows else _AFTER_MAX * limit_s
        return self.until - min(max(after_s, _AFTER_MIN * limit_s), _AFTER_MAX * limit_s)


@dataclass(slots=True)
class _Clocked:
    """A Progress that ends the work when its time is up."""

    until: float | None
    inner: Progress

    def is_up(self) -> bool:
        """Whether the time has come."""
        return self.until is not None and time.time() >= self.until

    def start(self, what: str, *, total: int | None = None) -> None:
        self._check()
        self.inner.start(what, total=total)

    def advance(self, units: int = 1, *, note: str = "") -> None:
        self._check()
        self.inner.advance(units, note=note)

    def done(self, note: str = "") -> None:
        self.inner.done(note)

    def note(self, text: str) -> None:
        self.inner.note(text)

    def _check(self) -> None:
        if self.is_up():
            raise TimeIsUp


def open_shared(work: Work, worker: int = 0) -> Study:
    """The study, with a sampler of this worker's own, which doesn't repeat the random choices of an interrupted search."""
    known = study.open_study(work.folder, work.judge.budget)
    seed = work.seed + 1009 * worker + len(known.get_trials(deepcopy=False))
    known.sampler = study.sampler_of(work.sampler, seed=seed, workers=work.workers)
    return known


def run(
    work: Work, *, worker: int = 0, progress: Progress | None = None, told: Callable[[], None] = lambda: None
) -> None:
    """Try combinations until there are enough, or time is up, or none can be made at all. `told` is called when there is something new to show."""
    shared = open_shared(work, worker)
    clocked = _Clocked(until=work.search_until(shared), inner=progress or Silent())
    samples = work.judge.training_samples()
    while not clocked.is_up() and not study.is_hopeless(shared) and study.begun(shared) < work.trials:
        trial = shared.ask()
        try:
            _try(work, shared, trial, samples, clocked, told)
        except Exception as exc:  # noqa: BLE001  # the border: one combination that a library can't take must not end the search
            if clocked.is_up():  # it stays unfinished, and is the next one of a search that goes on
                return
            message = str(exc) if isinstance(exc, EdgepackError) else f"{type(exc).__name__}: {exc}"
            study.fail(shared, trial, message)
        clocked.until = work.search_until(shared)
        told()


def start_workers(work: Work) -> list[SpawnProcess]:
    """Other processes that work on the same study. They die with this one."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_worker, args=(work, number, os.getpid())) for number in range(work.workers)]
    for process in workers:
        process.start()
    return workers


def _worker(work: Work, number: int, parent: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before prctl
        return
    try:
        run(work, worker=number)
    except Exception:  # the border of a process: what it prints, nobody sees
        write_atomic(work.folder / WORKER_LOG, traceback.format_exc().encode())
        raise


def _try(work: Work, shared: Study, trial: Any, samples: int, progress: Progress, told: Callable[[], None]) -> None:
    """One trial, up the ladder as far as it is promising."""
    budget = work.judge.budget
    space = replace(work.space, guess=_learnt(work, shared))
    steps = study.steps_begun(trial) or space.suggest(trial)
    study.keep_steps(trial, steps)
    told()
    last = len(ladder.RUNGS) - 1
    rung = 0 if ladder.trains(steps) else last
    while True:
        numbers = work.judge.numbers(ladder.shortened(steps, ladder.RUNGS[rung], samples=samples), progress)
        others = [budget.rank(one) for one in study.numbers_at(shared, rung, but=trial.number)]
        study.keep_numbers(trial, rung, numbers)
        told()
        if rung == last or not ladder.promoted(budget.rank(numbers), others):
            break
        rung += 1
    for name, over in budget.constraints(numbers).items():
        trial.set_constraint(name, over)
    shared.tell(trial, budget.objectives(numbers))


def _learnt(work: Work, shared: Study) -> SizeGuess | None:
    """The guess of sizes, corrected by what trials took so far."""
    guess = work.space.guess
    if guess is None:
        return None
    known = [(trial.steps, trial.numbers.wire_bytes) for trial in study.trials_of(shared) if trial.numbers is not None]
    return guess.corrected((steps, guess.bytes_of(steps, corrected=False), packed) for steps, packed in known)
