"""Trials reach the tools that a team looks at, offline, each result once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.core.errors import EnvironmentProblem, RecipeError
from edgepack.core.types import Silent
from edgepack.recipe import CompressStep, TuneSection
from edgepack.tune.budget import budget_of
from edgepack.tune.front import LAST, Row, rows_of
from edgepack.tune.numbers import Numbers
from edgepack.tune.study import Trial
from edgepack.tune.tracking import TRACKERS, Search, load_trackers
from edgepack.tune.tracking.feed import Feed
from edgepack.tune.tracking.protocol import OpenTracker, metrics_of, parameters_of

BUDGET = budget_of(TuneSection.model_validate({"max_size": 100, "max_drop_points": 1.0}))
STEP = CompressStep.model_validate({"method": "prune_magnitude", "sparsity": 0.5, "train": {"steps": 8}})
MISSING = """
import sys
sys.modules["mlflow.exceptions"] = None
sys.modules["tensorboard.compat.proto.event_pb2"] = None
from edgepack.core.errors import EdgepackError
from edgepack.tune.tracking import load_trackers
for name in ("mlflow", "tensorboard"):
    try:
        load_trackers((name,))
    except EdgepackError as exc:
        print(exc.exit_code, exc)
"""


def rows(rung: int) -> tuple[Row, ...]:
    found = Numbers(wire_bytes=90 + rung, file_bytes=200, accuracy=0.9, drop_points=0.5)
    trial = Trial(number=3, state="running", steps=(STEP,), rungs={rung: found}, error="")
    return rows_of([trial], BUDGET)


def search(folder: Path) -> Search:
    limits = {"max_size": 100.0}
    return Search(name="a search", key="abc", work_folder=folder, folder=folder / "tune" / "abc", budget=limits)


def told(tracker: OpenTracker, folder: Path) -> None:
    """A search that was interrupted after the first result, and told that again."""
    for rungs in ([0], [0, LAST]):
        feed = Feed([tracker], search(folder), Silent())
        for rung in rungs:
            feed.rows(rows(rung))
            feed.rows(rows(rung))
        feed.close()


def test_parameters_and_metrics_are_flat_and_only_what_was_measured() -> None:
    (row,) = rows(0)

    assert parameters_of(row) == {
        "prune_magnitude": True,
        "prune_magnitude.sparsity": 0.5,
        "prune_magnitude.train.steps": 8,
    }
    assert metrics_of(row) == {"wire_bytes": 90, "file_bytes": 200, "accuracy": 0.9, "drop_points": 0.5, "seconds": 0}


def test_tensorboard_gets_a_point_for_each_result(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (edgepack[tune-tracking])")
    from tensorboard.compat.proto.event_pb2 import Event

    told(TRACKERS.load("tensorboard"), tmp_path)

    (file,) = (tmp_path / "tune" / "abc" / "tensorboard").glob("events.out.tfevents.*")
    events = [Event.FromString(record) for record in records(file.read_bytes())]
    values = {value.tag: (event.step, value) for event in events for value in event.summary.value}
    assert values["trained 25%/wire_bytes"][0] == 3
    assert values["trained 25%/wire_bytes"][1].simple_value == 90
    assert values["trained 100%/wire_bytes"][1].simple_value == 90 + LAST
    assert values["trained 100%/steps"][1].tensor.string_val == [b"prune_magnitude 0.5"]
    assert len(events) == 3


def test_mlflow_gets_a_run_for_each_trial_in_a_store_of_the_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed (edgepack[tune-tracking])")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    told(TRACKERS.load("mlflow"), tmp_path)

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'tune' / 'mlflow.sqlite'}")
    experiment = client.get_experiment_by_name("a search")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "trial 3"
    assert run.data.params["prune_magnitude.sparsity"] == "0.5"
    assert run.data.metrics["wire_bytes"] == 90 + LAST
    assert [one.value for one in client.get_metric_history(run.info.run_id, "wire_bytes")][-1] == 90 + LAST


def test_a_tracker_whose_package_is_missing_says_what_to_install() -> None:
    ended = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, timeout=60, check=True)

    mlflow, tensorboard = ended.stdout.splitlines()
    assert mlflow.startswith(f"{EnvironmentProblem.exit_code} tune.track: mlflow can't be used (")
    assert tensorboard.startswith(f"{EnvironmentProblem.exit_code} tune.track: tensorboard can't be used (")
    assert all("pip install 'edgepack[tune-tracking]'" in line for line in (mlflow, tensorboard))


def test_a_tracker_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"unknown tracker 'tensorbord' \(did you mean 'tensorboard'\?\)"):
        load_trackers(("tensorbord",))


def records(data: bytes) -> list[bytes]:
    """The records of an event file: length, its check sum, the record, its check sum."""
    found = []
    while data:
        length = int.from_bytes(data[:8], "little")
        found.append(data[12 : 12 + length])
        data = data[16 + length :]
    return found
