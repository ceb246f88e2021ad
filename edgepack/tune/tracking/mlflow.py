"""Trials as MLflow runs: in the store that MLFLOW_TRACKING_URI names, else in a SQLite file of the work folder."""

from __future__ import annotations

import os
from typing import Any

# Read when the package is imported; nothing is told to anyone whom the user didn't name.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from edgepack.core.errors import EnvironmentProblem
from edgepack.tune.front import LAST, Row
from edgepack.tune.tracking.protocol import Search, metrics_of, parameters_of

_FILE = "mlflow.sqlite"
_TAG = "edgepack.trial"
_PARAMETER_CHARACTERS = 500  # MLflow refuses longer ones


class MlFlow:
    """A run for each trial; a metric's step is the rung, so that short trainings and full ones are one curve."""

    def __init__(self, search: Search) -> None:
        self._search = search
        store = search.work_folder / "tune"
        store.mkdir(parents=True, exist_ok=True)
        self._uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store / _FILE}"
        try:
            self._client = MlflowClient(tracking_uri=self._uri)
            known = self._client.get_experiment_by_name(search.name)
            artifacts = None if "MLFLOW_TRACKING_URI" in os.environ else (store / "mlflow").as_uri()
            self._experiment = (
                known.experiment_id
                if known
                else self._client.create_experiment(search.name, artifact_location=artifacts)
            )
        except (MlflowException, OSError) as exc:
            raise EnvironmentProblem(
                f"tune.track: MLflow's store {self._uri} can't be used ({exc}); correct MLFLOW_TRACKING_URI, or leave mlflow out"
            ) from exc

    def where(self) -> str:
        """The command that shows it."""
        return f"mlflow ui --backend-store-uri {self._uri}, experiment '{self._search.name}'"

    def result(self, row: Row) -> None:
        """The trial's run, made at its first result."""
        run = self._run(row)
        rung = row.trial.rung
        for name, value in metrics_of(row).items():
            self._client.log_metric(run, name, value, step=rung)
        self._client.set_tag(run, "edgepack.over_budget", row.over)
        if rung == LAST:
            self._client.set_terminated(run)

    def close(self) -> None:
        """Each run is whole already."""

    def _run(self, row: Row) -> str:
        key = f"{self._search.key}:{row.trial.number}"
        found: list[Any] = self._client.search_runs([self._experiment], filter_string=f"tags.`{_TAG}` = '{key}'")
        if found:
            return str(found[0].info.run_id)
        budget = {f"edgepack.{name}": str(limit) for name, limit in self._search.budget.items()}
        made = self._client.create_run(
            self._experiment,
            run_name=f"trial {row.trial.number}",
            tags={_TAG: key, "edgepack.steps": row.words, **budget},
        )
        for name, value in parameters_of(row).items():
            self._client.log_param(made.info.run_id, name, str(value)[:_PARAMETER_CHARACTERS])
        return str(made.info.run_id)
