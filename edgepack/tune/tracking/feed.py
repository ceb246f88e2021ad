"""Tells the trackers of a search every result once."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.core.types import Progress
from edgepack.tune.front import Row
from edgepack.tune.tracking.protocol import OpenTracker, Search, Tracker


class Feed:
    """Begins the trackers; `rows` hands on what they haven't been told in this process."""

    def __init__(self, trackers: Sequence[OpenTracker], search: Search, progress: Progress) -> None:
        self._trackers: list[Tracker] = [tracker(search) for tracker in trackers]
        self._told: set[tuple[int, int]] = set()
        for tracker in self._trackers:
            progress.note(f"tracked: {tracker.where()}")

    def rows(self, rows: Sequence[Row]) -> None:
        """Tell what is new."""
        for row in sorted(rows, key=lambda row: row.trial.number) if self._trackers else ():
            if (key := (row.trial.number, row.trial.rung)) not in self._told:
                self._told.add(key)
                for tracker in self._trackers:
                    tracker.result(row)

    def close(self) -> None:
        """The search has ended."""
        for tracker in self._trackers:
            tracker.close()
