"""What a tracker is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgepack.tune.front import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search that is tracked: its name, a key that tells it from others, the work folder and the search's own folder in it, its budget."""

    name: str
    key: str
    work_folder: Path
    folder: Path
    budget: Mapping[str, float]


class Tracker(Protocol):
    """Writes results elsewhere. The same result may come twice, of a search that goes on: it must not stand there twice."""

    def where(self) -> str:
        """Where the results are, and how they are looked at: a line for the user."""

    def result(self, row: Row) -> None:
        """A trial has reached a rung."""

    def close(self) -> None:
        """The search has ended."""


class OpenTracker(Protocol):
    """What begins one."""

    def __call__(self, search: Search) -> Tracker: ...


def metrics_of(row: Row) -> dict[str, float]:
    """A trial's numbers by name; those that were measured."""
    numbers = row.numbers.as_dict()
    names = ("wire_bytes", "file_bytes", "accuracy", "drop_points", "latency_p50_ms", "peak_memory_bytes", "seconds")
    return {name: float(numbers[name]) for name in names if numbers[name] is not None}


def parameters_of(row: Row) -> dict[str, Any]:
    """What a trial is made of, flat: {"prune_entropy.sparsity": 0.6, "quantize.train.steps": 250, …}."""
    found: dict[str, Any] = {}
    for step in row.trial.steps:
        found[step.method] = True
        for option, value in step.options().items():
            nested = value.items() if isinstance(value, Mapping) else ()
            found |= {f"{step.method}.{option}.{inner}": item for inner, item in nested}
            if not isinstance(value, Mapping):
                found[f"{step.method}.{option}"] = value
    return found
