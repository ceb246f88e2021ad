"""The two loops of inferences: warm-up until stable, then the measured one. Every sample is kept, none dropped."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from .events import Events
from .inputs import Inputs
from .state import device_state

STATE_S = 1.0  # how often the device's state is read between inferences
# The warm-up is stable when the medians of its last two windows differ by at most this share; a window holds at
# least so many inferences and so much time, because the frequency of a CPU settles in some tens of milliseconds.
STABLE_WITHIN = 0.02
WINDOW_ITERATIONS, WINDOW_S = 5, 0.1


class Stability:
    """Judges the warm-up's samples window by window; `stable` is None before two windows are full."""

    def __init__(self) -> None:
        self.stable: bool | None = None
        self._window: list[int] = []
        self._elapsed_ns, self._median = 0, 0.0

    def add(self, nanoseconds: int) -> None:
        """Take one sample; at the end of a window compare its median with the one before."""
        self._window.append(nanoseconds)
        self._elapsed_ns += nanoseconds
        if len(self._window) < WINDOW_ITERATIONS or self._elapsed_ns < WINDOW_S * 1e9:
            return
        before, self._median = self._median, float(sorted(self._window)[len(self._window) // 2])
        if before:
            self.stable = abs(self._median - before) <= STABLE_WITHIN * before
        self._window, self._elapsed_ns = [], 0


class Loops:
    """Runs a model again and again and tells each sample. `after_each` is called after every inference, outside its time."""

    def __init__(
        self, model: Any, inputs: Inputs, events: Events, *, max_s: float, after_each: Callable[[], None] | None = None
    ) -> None:
        self._model, self._inputs, self.events, self._after_each = model, inputs, events, after_each
        self._deadline = time.perf_counter() + max_s
        self._state_s = time.perf_counter()
        self.stopped_early = False
        self.stable: bool | None = None

    def warm_up(self, *, min_iterations: int, min_s: float, max_s: float) -> int:
        """Run until both minima are reached and the samples are stable, for at most max_s if they never are. How many it ran."""
        stability = Stability()
        start = now = time.perf_counter()
        count = 0
        while count < min_iterations or now - start < min_s or (stability.stable is not True and now - start < max_s):
            if now >= self._deadline:
                self.stopped_early = self.stopped_early or count < min_iterations or now - start < min_s
                break
            sample = self._timed("warmup", count)
            stability.add(sample)
            count += 1
            now = self._between()
        self.stable = stability.stable
        return count

    def measure(self, *, min_iterations: int, min_s: float) -> int:
        """Run until both minima are reached, at least once. How many it ran."""
        start = now = time.perf_counter()
        count = 0
        while count < max(1, min_iterations) or now - start < min_s:
            if now >= self._deadline and count:
                self.stopped_early = True
                break
            self._timed("measured", count)
            count += 1
            if self._after_each is not None:
                self._after_each()
            now = self._between()
        return count

    def _timed(self, kind: str, position: int) -> int:
        nanoseconds = timed(self._model, self._inputs, position)
        self.events.sample(kind, nanoseconds)
        return nanoseconds

    def _between(self) -> float:
        now = time.perf_counter()
        self.events.between(now)
        if now - self._state_s >= STATE_S:
            self.events.tell("state", state=device_state())
            self._state_s = time.perf_counter()
        return now


def timed(model: Any, inputs: Inputs, position: int) -> int:
    """Nanoseconds of one inference by the monotonic clock; copying the sample in is not part of it."""
    inputs.set(position)
    start = time.perf_counter_ns()
    model.invoke()
    return time.perf_counter_ns() - start


def without_collections() -> None:
    """Collect garbage now and not again: a collection in the middle of a sample is Python's time, not the model's."""
    gc.collect()
    gc.disable()
