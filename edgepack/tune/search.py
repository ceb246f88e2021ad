"""The search, top to bottom: the original, the trials, the judgement of the best on the evaluation samples, the recipe and its bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

from edgepack.core.errors import CheckFailed, RecipeError, StageError, UsageError
from edgepack.core.locks import exclusive
from edgepack.core.types import Progress, Silent
from edgepack.pipeline import build_all
from edgepack.plan import BuildPlan
from edgepack.recipe import Recipe, find_recipe, load_recipe
from edgepack.tune import ladder, study
from edgepack.tune.before import informed
from edgepack.tune.budget import Budget, budget_of, limits_of, with_limits
from edgepack.tune.front import Row, candidates, rows_of
from edgepack.tune.measure import Judge
from edgepack.tune.numbers import Numbers
from edgepack.tune.space import SPACE, STARTS, in_words, searched_methods
from edgepack.tune.suggest import Fixed, Space
from edgepack.tune.tracking import Search, load_trackers
from edgepack.tune.tracking.feed import Feed
from edgepack.tune.tuned import NAME, told_in_recipe, write_tuned
from edgepack.tune.work import WORKER_LOG, Work, open_shared, run, start_workers

TRIALS = 40
_JUDGED_MAX = 3  # each look at the evaluation samples is a chance to be lucky on them
_POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The recommended combination. `row` has its numbers on the samples that chose it, `final` are those on the evaluation samples."""

    row: Row
    final: Numbers
    recipe_file: Path
    bundle: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found. `chosen` is None when the budget was not met; then `nearest` says what came nearest, `refused` what the final judgement found."""

    budget: Budget
    original: Numbers
    rows: tuple[Row, ...]
    failed: tuple[tuple[str, str], ...]
    unfinished: int
    chosen: Chosen | None
    refused: tuple[tuple[Row, Numbers, str], ...]
    folder: Path

    @property
    def nearest(self) -> tuple[Row, Numbers]:
        """The combination that exceeds the budget by the least, with the most telling numbers of it."""
        judged = [(row, numbers) for row, numbers, _ in self.refused]
        known = judged or [(row, row.numbers) for row in self.rows]
        return min(known, key=lambda pair: (-pair[0].trial.rung, self.budget.rank(pair[1])))


def tune(
    recipe: Recipe | Path,
    *,
    target: str | None = None,
    folder: Path | None = None,
    work_folder: Path | None = None,
    dist_folder: Path | None = None,
    device: str = "local",
    trials: int = TRIALS,
    time_limit_s: float | None = None,
    workers: int = 1,
    seed: int | None = None,
    progress: Progress | None = None,
    watch: Callable[[tuple[Row, ...]], None] = lambda _: None,
) -> Found:
    """Search for the combination of methods that keeps the budget of the recipe's `tune`, write its recipe and build it.

    `trials` and `time_limit_s` end the search, whichever comes first; the final judgement and the build are part of that time. A search that was interrupted goes
    on where it was. `watch` is shown the trials whenever one has news. Raises RecipeError where there is no budget, and what a build raises.
    """
    progress = progress or Silent()
    began = time.time()
    until = None if time_limit_s is None else began + time_limit_s
    read = load_recipe(recipe) if isinstance(recipe, Path) else recipe
    folder = (folder or (find_recipe(recipe).parent if isinstance(recipe, Path) else Path.cwd())).resolve()
    if workers < 1 or trials < 1:
        raise UsageError("tune: workers and trials are at least 1")
    trackers = load_trackers(read.tune.track)
    judge = Judge(
        recipe=read,
        folder=folder,
        work_folder=work_folder,
        dist_folder=dist_folder,
        target=target or read.targets[0],
        device=device,
        budget=budget_of(read.tune),
        threads=None,
        held_out=True,
    )
    plan, original, space = _original(judge, progress)
    work = Work(
        judge=judge if workers == 1 else replace(judge, threads=max(1, plan.threads // workers)),
        folder=plan.work_folder / "tune" / _key(judge, plan, space.methods)[:20],
        space=space,
        sampler=read.tune.sampler,
        seed=read.seed if seed is None else seed,
        workers=workers,
        trials=trials,
        until=until,
        began=began,
    )
    lock = plan.work_folder / "locks" / "tune.lock"
    with exclusive(lock, waiting=lambda pid: progress.note(f"process {pid} is tuning here; waiting for its end")):
        tracked = Feed(trackers, _tracked(work, plan), progress)

        def told(rows: tuple[Row, ...]) -> None:
            watch(rows)
            tracked.rows(rows)

        try:
            _search(work, progress, told)
            return _conclude(work, original, plan.dist_folder / "tuned", progress)
        finally:
            tracked.close()


def _original(judge: Judge, progress: Progress) -> tuple[BuildPlan, Numbers, Space]:
    """The original's numbers, the plan of the first combination, and what there is to combine. Refuses here what no trial could do."""
    if judge.recipe.data.train is None:
        raise RecipeError("tune: it combines methods that train, and data.train is missing; add a [data.train] table")
    space = Space(recipe=judge.recipe, methods=searched_methods(judge.recipe), samples=judge.training_samples())
    first = [space.suggest(Fixed(values)) for values in space.starts()]
    plan, *_ = [judge.plan(steps) for steps in first]
    original = judge.original(first[0], progress)
    return plan, original, informed(space, judge, first[0], progress)


def _tracked(work: Work, plan: BuildPlan) -> Search:
    """What trackers know of a search."""
    limits = dict(limits_of(work.judge.budget))
    name = f"edgepack tune {work.judge.recipe.bundle.name} {work.judge.target}"
    return Search(name=name, key=work.folder.name, work_folder=plan.work_folder, folder=work.folder, budget=limits)


def _key(judge: Judge, plan: BuildPlan, methods: Sequence[str]) -> str:
    """What trials of one study have in common."""
    recipe = judge.recipe
    parts = ("model", "preprocess", "metric", "compress", "export", "seed")
    assert plan.train is not None
    return plan.key(
        "tune",
        {name: recipe.model_dump(mode="json")[name] for name in parts},
        repr(judge.budget),
        [repr((name, SPACE[name])) for name in methods],
        [repr(ladder.RUNGS), repr(STARTS), judge.target, judge.device],
        recipe.tune.model_dump(mode="json", include={"sampler", "layers", "sensitive_max", "steps_max"}),
        [dict(plan.train.fingerprint), dict(plan.calibration.fingerprint), dict(plan.evaluation.fingerprint)],
        plan.constraints.model_dump(mode="json"),
    )


def _search(work: Work, progress: Progress, watch: Callable[[tuple[Row, ...]], None]) -> None:
    """Trials until there are enough or time is up. Raises StageError where none could be made."""
    shared = open_shared(work)
    study.begin(shared, list(work.space.starts()))

    def told() -> None:
        watch(rows_of(study.trials_of(shared), work.judge.budget))

    told()
    if work.workers == 1:
        run(work, progress=progress, told=told)
    else:
        _wait_for(start_workers(work), told, work.folder / WORKER_LOG)
    if study.is_hopeless(shared):
        reasons = [trial.error for trial in study.trials_of(shared) if trial.error]
        raise StageError(f"tune: no combination of methods could be made; the last one: {reasons[-1]}")


def _wait_for(workers: Sequence[BaseProcess], told: Callable[[], None], log: Path) -> None:
    """Until all have ended. Raises StageError where one was killed, or failed and wrote `log`."""
    log.unlink(missing_ok=True)
    try:
        while any(process.is_alive() for process in workers):
            time.sleep(_POLL_S)
            told()
    finally:
        for process in workers:
            process.kill()
            process.join()
    ended = [process.exitcode for process in workers if process.exitcode]
    if ended:
        why = f"see {log}" if log.exists() else "with fewer --workers if memory ran out"
        raise StageError(
            f"tune: a worker ended with code {ended[0]}; finished trials are kept: run the same command again ({why})"
        )


def _conclude(work: Work, original: Numbers, dist: Path, progress: Progress) -> Found:
    """The best of the search judged on the evaluation samples, its recipe and its bundle."""
    trials = study.trials_of(open_shared(work))
    rows = rows_of(trials, work.judge.budget)
    if not rows:
        raise StageError("tune: time was up before any trial was finished; run the same command again to go on")
    refused: list[tuple[Row, Numbers, str]] = []
    chosen = None
    for row in candidates(rows, work.judge.budget)[:_JUDGED_MAX]:
        found = _judged(work, row, original, dist, refused, progress)
        if found is not None:
            chosen = found
            break
    return Found(
        budget=work.judge.budget,
        original=original,
        rows=rows,
        failed=tuple((in_words(trial.steps), trial.error) for trial in trials if trial.error),
        unfinished=sum(trial.state == "running" for trial in trials),
        chosen=chosen,
        refused=tuple(refused),
        folder=dist,
    )


def _judged(
    work: Work, row: Row, original: Numbers, dist: Path, refused: list[tuple[Row, Numbers, str]], progress: Progress
) -> Chosen | None:
    """The bundle of a combination that keeps the budget on the evaluation samples, too; else None, and `refused` says why."""
    budget = work.judge.budget
    steps = row.trial.steps
    final = replace(work.judge, held_out=False, threads=None).numbers(steps, progress)
    if over := budget.shortfalls(final):
        refused.append((row, final, "; ".join(map(str, over))))
        return None
    file = work.judge.folder / NAME
    on_this_machine = (
        budget if work.judge.device == "local" else replace(budget, latency_p50_ms=None, peak_memory_bytes=None)
    )
    comments = told_in_recipe(row, final, original, budget)
    write_tuned(with_limits(work.judge.recipe, on_this_machine), steps, file, comments=comments)
    try:
        built = build_all(
            file,
            targets=(work.judge.target,),
            folder=work.judge.folder,
            work_folder=work.judge.work_folder,
            dist_folder=dist,
            progress=progress,
        )
    except CheckFailed as exc:
        file.unlink()
        refused.append((row, final, str(exc)))
        return None
    return Chosen(row=row, final=final, recipe_file=file, bundle=built.bundles[0].path)
