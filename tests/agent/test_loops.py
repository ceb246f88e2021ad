from __future__ import annotations

import io
import json
from typing import Any

from edgepack.agent.bench.events import Events
from edgepack.agent.bench.loops import WINDOW_ITERATIONS, Loops, Stability


class Clockwork:
    """A model and its inputs in one: every inference waits as long as it is told to."""

    def __init__(self, *, wait_s: float = 0.0) -> None:
        self.wait_s, self.count = wait_s, 0

    def set(self, position: int) -> None:
        pass

    def invoke(self) -> None:
        import time

        self.count += 1
        end = time.perf_counter() + self.wait_s
        while time.perf_counter() < end:
            pass


def loops(model: Clockwork, *, max_s: float = 60) -> tuple[Any, io.StringIO]:
    told = io.StringIO()
    return Loops(model, model, Events(told), max_s=max_s), told  # type: ignore[arg-type]


def events(told: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.getvalue().splitlines()]


def test_equal_windows_are_stable_and_different_ones_are_not() -> None:
    steady, falling = Stability(), Stability()

    for number in range(3 * WINDOW_ITERATIONS):
        steady.add(30_000_000 + number % 2)
        falling.add(60_000_000 - 1_000_000 * number)

    assert steady.stable is True
    assert falling.stable is False


def test_before_two_windows_nothing_is_said_about_stability() -> None:
    judge = Stability()

    for _ in range(2 * WINDOW_ITERATIONS - 1):
        judge.add(30_000_000)

    assert judge.stable is None


def test_a_window_of_fast_inferences_lasts_a_tenth_of_a_second() -> None:
    judge = Stability()

    for _ in range(1_999):
        judge.add(100_000)
    assert judge.stable is None

    judge.add(100_000)
    assert judge.stable is True


def test_the_warm_up_ends_when_it_is_stable() -> None:
    model = Clockwork(wait_s=0.025)
    one, _ = loops(model)

    ran = one.warm_up(min_iterations=1, min_s=0, max_s=30)

    assert one.stable is True
    assert ran == model.count >= 2 * WINDOW_ITERATIONS
    assert not one.stopped_early


def test_a_warm_up_that_does_not_become_stable_is_bounded() -> None:
    class Slower(Clockwork):
        def invoke(self) -> None:
            self.wait_s = 0.02 * 1.2**self.count
            super().invoke()

    one, _ = loops(Slower())

    one.warm_up(min_iterations=1, min_s=0, max_s=0.5)

    assert one.stable is False
    assert not one.stopped_early


def test_without_time_for_stability_the_minima_end_the_warm_up() -> None:
    one, _ = loops(Clockwork())

    assert one.warm_up(min_iterations=3, min_s=0, max_s=0) == 3
    assert one.stable is None


def test_the_bound_of_a_whole_process_cuts_both_loops_and_says_so() -> None:
    one, _ = loops(Clockwork(wait_s=0.001), max_s=0.02)

    one.warm_up(min_iterations=1, min_s=60, max_s=0)
    ran = one.measure(min_iterations=1000, min_s=0)

    assert one.stopped_early
    assert ran == 1


def test_a_query_count_and_a_duration_hold_together() -> None:
    """As MLPerf's single stream asks for: at least so many queries and at least so long."""
    one, _ = loops(Clockwork(wait_s=0.0001))

    assert one.measure(min_iterations=1024, min_s=0) == 1024
    assert one.measure(min_iterations=10, min_s=0.1) > 10


def test_samples_come_in_order_and_the_state_between_inferences() -> None:
    model = Clockwork(wait_s=0.01)
    one, told = loops(model)

    ran = one.measure(min_iterations=1, min_s=2.3)
    one.events.flush()

    kinds = [event["event"] for event in events(told)]
    samples = [event["ns"] for event in events(told) if event["event"] == "samples"]
    assert kinds.count("state") == 2
    assert len(samples) >= 4, "told every half second"
    assert sum(map(len, samples)) == ran
    states = [event["state"] for event in events(told) if event["event"] == "state"]
    assert 0.9 < states[1]["at_s"] - states[0]["at_s"] < 1.5
