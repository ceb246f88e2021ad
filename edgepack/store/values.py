"""One metric of many runs as arrays: what statistics over a fleet read, 50 bytes a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgepack.records import Conditions, DeviceName, Environment, Subject
from edgepack.store.sql.query import Nouns

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """A metric's values, oldest run first. `bench`, `device`, `subject`, `conditions` and `environment` are places in the tuples of the plural name."""

    metric: str
    benches: tuple[str, ...]
    devices: tuple[DeviceName, ...]
    subjects: tuple[Subject, ...]
    all_conditions: tuple[Conditions, ...]
    environments: tuple[Environment, ...]
    bench: NDArray[np.int32]
    device: NDArray[np.int32]
    subject: NDArray[np.int32]
    conditions: NDArray[np.int32]
    environment: NDArray[np.int32]
    round: NDArray[np.int32]
    position: NDArray[np.int32]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.value)


def values_of(metric: str, nouns: Nouns, rows: NDArray[np.float64]) -> Values:
    """Rows of `metric_columns`, with database ids turned into places among those that occur."""
    benches, bench = _places(nouns.benches, rows[:, 0])
    devices, device = _places(nouns.devices, rows[:, 1])
    subjects, subject = _places(nouns.subjects, rows[:, 2])
    all_conditions, conditions = _places(nouns.conditions, rows[:, 3])
    environments, environment = _places(nouns.environments, rows[:, 4])
    return Values(
        metric=metric,
        benches=benches,
        devices=devices,
        subjects=subjects,
        all_conditions=all_conditions,
        environments=environments,
        bench=bench,
        device=device,
        subject=subject,
        conditions=conditions,
        environment=environment,
        round=rows[:, 5].astype(np.int32),
        position=rows[:, 6].astype(np.int32),
        value=rows[:, 7].copy(),
    )


def _places(nouns: Mapping[int, T], ids: NDArray[np.float64]) -> tuple[tuple[T, ...], NDArray[np.int32]]:
    used, places = np.unique(ids.astype(np.int64), return_inverse=True)
    return tuple(nouns[int(number)] for number in used), places.astype(np.int32)
