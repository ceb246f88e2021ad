"""The search's memory: an Optuna study in a SQLite file of the work folder, which a kill at any moment leaves whole."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgepack.core.errors import EnvironmentProblem
from edgepack.recipe import CompressStep
from edgepack.tune.budget import Budget
from edgepack.tune.numbers import Numbers

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

FILE = "study.sqlite"
_NAME = "tune"
_STEPS, _ERROR, _AGAIN = "steps", "error", "again_of"
_LOCKED_WAIT_S = 120
_RANDOM_TRIALS = 8
_FAILURES_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One combination of the search. `rungs` are its numbers by the rung of the ladder that they were found on; `error` says why it could not be made."""

    number: int
    state: Literal["waiting", "running", "done", "failed"]
    steps: tuple[CompressStep, ...]
    rungs: Mapping[int, Numbers]
    error: str

    @property
    def rung(self) -> int:
        """The highest rung that was reached; -1 before the first."""
        return max(self.rungs, default=-1)

    @property
    def numbers(self) -> Numbers | None:
        """What was found there."""
        return self.rungs.get(self.rung)


def open_study(folder: Path, budget: Budget) -> Study:
    """The study of a folder, made when it isn't there. Raises EnvironmentProblem without Optuna."""
    optuna = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{folder / FILE}", engine_kwargs={"connect_args": {"timeout": _LOCKED_WAIT_S}}
    )
    directions = ["minimize"] * (2 if budget.latency_p50_ms is None else 3)
    found: Study = optuna.create_study(storage=storage, study_name=_NAME, load_if_exists=True, directions=directions)
    return found


def sampler_of(name: str, *, seed: int, workers: int) -> BaseSampler:
    """What chooses the next trial; `name` is that of the recipe."""
    optuna = _optuna()
    chooser: BaseSampler
    if name == "nsga2":
        chooser = optuna.samplers.NSGAIISampler(seed=seed)
    else:
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            chooser = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=_RANDOM_TRIALS, multivariate=True, group=True, constant_liar=workers > 1
            )
    return chooser


def begin(study: Study, starts: Sequence[Mapping[str, Any]]) -> None:
    """Put the first combinations in the queue of a fresh study; of one that was interrupted, those that were not finished.

    Only for who alone uses the study: a trial that runs is taken for one whose process has died.
    """
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    if not trials:
        for parameters in starts:
            study.enqueue_trial(dict(parameters))
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            known = {_STEPS: trial.user_attrs[_STEPS]} if _STEPS in trial.user_attrs else {}
            study.enqueue_trial(trial.params, user_attrs={_AGAIN: trial.number, **known})
            study.tell(trial.number, state=TrialState.FAIL)


def trials_of(study: Study) -> tuple[Trial, ...]:
    """Every trial, but those that were interrupted and taken up again."""
    found = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get(_AGAIN) for trial in found}
    return tuple(_read(trial) for trial in found if trial.number not in again)


def begun(study: Study) -> int:
    """How many trials run or have ended, well or not."""
    return sum(trial.state != "waiting" for trial in trials_of(study))


def is_hopeless(study: Study) -> bool:
    """Whether the first trials have all failed: then it is no combination that is wrong."""
    states = [trial.state for trial in trials_of(study)]
    return "done" not in states and states.count("failed") >= _FAILURES_MAX


def numbers_at(study: Study, rung: int, *, but: int) -> list[Numbers]:
    """What the other trials gave on a rung."""
    return [trial.rungs[rung] for trial in trials_of(study) if trial.number != but and rung in trial.rungs]


def fail(study: Study, trial: Any, message: str) -> None:
    """End a trial that could not be made, and remember why."""
    from optuna.trial import TrialState

    trial.set_user_attr(_ERROR, message)
    study.tell(trial, state=TrialState.FAIL)


def steps_begun(trial: Any) -> tuple[CompressStep, ...]:
    """What a trial is made of that was interrupted, so that its trainings go on; () for another."""
    return tuple(CompressStep.model_validate(step) for step in trial.user_attrs.get(_STEPS, ()))


def keep_steps(trial: Any, steps: Sequence[CompressStep]) -> None:
    """Remember what a trial is made of."""
    trial.set_user_attr(_STEPS, [{"method": step.method, **step.options()} for step in steps])


def keep_numbers(trial: Any, rung: int, numbers: Numbers) -> None:
    """Remember what a trial gave on a rung: it is there from now on, whatever happens."""
    trial.set_user_attr(f"rung {rung}", numbers.as_dict())


def _read(trial: FrozenTrial) -> Trial:
    from optuna.trial import TrialState

    states: dict[TrialState, Literal["waiting", "running", "done", "failed"]] = {
        TrialState.WAITING: "waiting",
        TrialState.RUNNING: "running",
        TrialState.COMPLETE: "done",
    }
    known = trial.user_attrs
    rungs = {
        int(name.split()[1]): Numbers.from_dict(value) for name, value in known.items() if name.startswith("rung ")
    }
    return Trial(
        number=trial.number,
        state=states.get(trial.state, "failed"),
        steps=tuple(CompressStep.model_validate(step) for step in known.get(_STEPS, ())),
        rungs=rungs,
        error=known.get(_ERROR, ""),
    )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as exc:
        raise EnvironmentProblem(
            f"tune: Optuna can't be imported ({exc}); install it: pip install 'edgepack[tune]'"
        ) from exc
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
