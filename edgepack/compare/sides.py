"""The two sides of a comparison: which runs 'latest', 'float@latest~1', an id's first characters or a bench.json mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from edgepack.core.errors import DataError, UsageError, did_you_mean
from edgepack.records import Accuracy, DeviceName, RunRecord, RunSummary

if TYPE_CHECKING:
    from edgepack.store.results import ResultStore

PREFERRED = "bundle"
_FILE_SUFFIX = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side: how the user called it, its runs (complete ones of one model), and per device what was right on which inputs, where that was kept."""

    name: str
    runs: tuple[RunSummary, ...]
    answers: tuple[tuple[DeviceName, Accuracy], ...] = ()


def read_side(reference: str, *, store: ResultStore | None = None) -> Side:
    """The runs that a reference means: `[LABEL@]BENCH`, with BENCH an id of the results store, its beginning, 'latest', 'latest~1', or a bench.json.

    Without a label it is the bundle, or the only model there is. Raises UsageError for a reference that leads to no runs, DataError for a damaged file.
    """
    label, at, place = reference.rpartition("@")
    path = Path(place)
    if path.suffix == _FILE_SUFFIX or path.is_dir():
        records = _of_file(path / "bench.json" if path.is_dir() else path)
        chosen = choose(reference, [RunSummary.of(one) for one in records], label=label if at else None)
        return Side(name=reference, runs=chosen, answers=_answers(records, chosen))
    return _of_store(reference, place, label=label if at else None, store=store)


def choose(name: str, runs: Sequence[RunSummary], *, label: str | None = None) -> tuple[RunSummary, ...]:
    """The complete runs of one label, of all devices. Raises UsageError when there are none, or when the label must be said and isn't."""
    labels = sorted({run.subject.label for run in runs})
    if label is None:
        label = PREFERRED if PREFERRED in labels else labels[0] if len(labels) == 1 else None
    if label is None:
        ways = ", ".join(f"{one}@{name}" for one in labels) or "a bench with runs"
        raise UsageError(f"'{name}': it holds {len(labels)} models: name one: {ways}")
    if label not in labels:
        raise UsageError(f"'{name}': it holds no model '{label}'{did_you_mean(label, labels)}")
    fitting = [run for run in runs if run.subject.label == label]
    complete = tuple(run for run in fitting if run.status == "complete" and run.conditions.suite != "profile")
    if not complete:
        reasons = sorted({run.reason for run in fitting if run.reason})
        why = f": {reasons[0]}" if reasons else ""
        raise UsageError(
            f"'{name}': none of its {len(fitting)} runs is complete{why}; measure again with 'edgepack bench'"
        )
    return complete


def _of_store(reference: str, place: str, *, label: str | None, store: ResultStore | None) -> Side:
    from edgepack.store.results import Where, open_store

    if store is None:
        with open_store() as opened:
            return _of_store(reference, place, label=label, store=opened)
    bench = store.resolve(place)
    chosen = choose(reference, store.summaries(Where(bench=bench)), label=label)
    answers = []
    for device in dict.fromkeys(run.device for run in chosen if "accuracy" in run.metrics):
        where = Where(
            bench=bench, label=chosen[0].subject.label, device=f"{device.transport}:{device.name}", status="complete"
        )
        found = next((run.accuracy for run in store.runs(where) if run.accuracy is not None), None)
        if found is not None:
            answers.append((device, found))
    return Side(name=reference, runs=chosen, answers=tuple(answers))


def _answers(records: Sequence[RunRecord], chosen: Sequence[RunSummary]) -> tuple[tuple[DeviceName, Accuracy], ...]:
    keys = {run.key for run in chosen}
    found: dict[DeviceName, Accuracy] = {}
    for record in records:
        if record.accuracy is not None and record.key in keys:
            found.setdefault(record.device, record.accuracy)
    return tuple(found.items())


def _of_file(path: Path) -> list[RunRecord]:
    """The runs of a file that `edgepack bench --save` wrote."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as exc:
        raise UsageError(
            f"{path}: no such file; name one that 'edgepack bench --save' wrote, or a bench of the results store"
        ) from exc
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: can't be read as JSON: {exc}; save it again with 'edgepack bench --save'") from exc
    try:
        return TypeAdapter(list[RunRecord]).validate_python(content["records"])
    except (ValidationError, KeyError, TypeError) as exc:
        raise DataError(
            f"{path}: it is not what 'edgepack bench --save' of this version writes; measure again"
        ) from exc
