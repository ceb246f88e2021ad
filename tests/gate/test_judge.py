"""The decision on runs whose truth is known: medians drawn from a seed stand for a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from made_benches import bench_of, summaries

from edgepack.core.errors import UsageError
from edgepack.gate import judge, limits_of, markdown
from edgepack.gate.judge import Stored
from edgepack.records import DeviceName, RunRecord
from edgepack.stats import Verdict

NAMES = ("old.edgepack", "new.edgepack")


class Bench:
    """Measures as a device would whose bundle takes `factor` times as long, with `spread` between processes."""

    def __init__(self, factor: float = 1.0, *, spread: float = 0.01, seed: int = 0, **other: Any) -> None:
        self.factor, self.spread, self.other = factor, spread, other
        self.generator = np.random.default_rng(seed)
        self.asked: list[tuple[str, int]] = []

    def __call__(self, device: str, rounds: int) -> Sequence[RunRecord]:
        self.asked.append((device, rounds))
        a, b = np.exp(self.generator.normal(0, self.spread, (2, rounds)))
        name = DeviceName(transport="ssh", name=device)
        return bench_of(
            {"baseline": a, "bundle": self.factor * b}, bench=f"b{len(self.asked)}", device=name, **self.other
        )


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.PASS), (1.1, Verdict.FAIL), (0.7, Verdict.PASS)])
def test_a_clear_case_is_decided_at_the_first_look(factor: float, verdict: Verdict) -> None:
    bench = Bench(factor)

    result = judge(bench, devices=["pi"], limits=limits_of([], []), names=NAMES)

    assert result.verdict is verdict
    assert bench.asked == [("pi", 8)]
    assert not result.hints


def test_an_unclear_case_is_extended_once_by_pairs_of_a_second_bench() -> None:
    bench = Bench(1.07, spread=0.02)

    result = judge(bench, devices=["pi"], limits=limits_of([], []), names=NAMES)

    assert bench.asked == [("pi", 8), ("pi", 6)]
    assert (result.effects[0].count, result.verdict) == (14, Verdict.FAIL)


def test_what_stays_unclear_is_said_with_what_would_decide() -> None:
    result = judge(Bench(1.0, spread=0.06, seed=3), devices=["pi"], limits=limits_of([], []), names=NAMES)

    assert result.verdict is Verdict.INCONCLUSIVE
    assert "latency_p50_ms on ssh:pi: about" in result.hints[0]
    assert "(--pairs" in result.hints[0]


def test_only_the_device_that_is_unclear_is_measured_again() -> None:
    class Two(Bench):
        def __call__(self, device: str, rounds: int) -> Sequence[RunRecord]:
            self.spread = 0.001 if device == "quiet" else 0.05
            return super().__call__(device, rounds)

    bench = Two()

    judge(bench, devices=["quiet", "loud"], limits=limits_of([], []), names=NAMES)

    assert bench.asked == [("quiet", 8), ("loud", 8), ("loud", 6)]


def test_one_slower_device_of_several_fails_the_gate() -> None:
    class One(Bench):
        def __call__(self, device: str, rounds: int) -> Sequence[RunRecord]:
            self.factor = 1.1 if device == "pi2" else 1.0
            return super().__call__(device, rounds)

    result = judge(One(), devices=["pi0", "pi1", "pi2"], limits=limits_of([], []), names=NAMES)

    assert result.verdict is Verdict.FAIL
    assert [one.verdict for one in result.effects] == [Verdict.PASS, Verdict.PASS, Verdict.FAIL]
    assert all(one.q is not None for one in result.effects)


def test_the_same_device_twice_is_refused() -> None:
    class Same(Bench):
        def __call__(self, device: str, rounds: int) -> Sequence[RunRecord]:
            return super().__call__("pi", rounds)

    with pytest.raises(UsageError, match=r"--device b: it is the device of --device a"):
        judge(Same(), devices=["a", "b"], limits=limits_of([], []), names=NAMES)


def test_two_percent_more_instructions_fail_in_one_run_every_time() -> None:
    """Fresh processes of the deterministic device differ by at most 0.1 %."""
    emulated = {"clock": "guest_instructions", "emulated": "QEMU"}
    limits = limits_of(["guest_instructions"], [0.01])

    def verdicts(factor: float) -> set[Verdict]:
        return {
            judge(
                Bench(factor, spread=0.0003, seed=seed, environment=emulated),
                devices=["vm"],
                limits=limits,
                names=NAMES,
            ).verdict
            for seed in range(100)
        }

    assert verdicts(1.02) == {Verdict.FAIL}
    assert verdicts(1.0) == {Verdict.PASS}


def test_a_latency_is_not_asked_of_an_emulator() -> None:
    bench = Bench(environment={"emulated": "QEMU"})

    with pytest.raises(UsageError, match=r"latency_p50_ms: .* it measured .*emulated_p50_ms"):
        judge(bench, devices=["vm"], limits=limits_of([], []), names=NAMES)


def test_accuracy_is_judged_in_points_and_not_extended() -> None:
    right = [True] * 1000
    wrong = [False] * 40 + [True] * 960
    limits = limits_of([], [], max_drop_points=1.0)

    worse = Bench(correct={"baseline": right, "bundle": wrong})
    same = Bench(correct={"baseline": wrong, "bundle": wrong})
    few = Bench(correct={"baseline": right[:20], "bundle": right[:20]})

    assert judge(worse, devices=["pi"], limits=limits, names=NAMES).verdict is Verdict.FAIL
    assert judge(same, devices=["pi"], limits=limits, names=NAMES).verdict is Verdict.PASS
    unclear = judge(few, devices=["pi"], limits=limits, names=NAMES)
    assert unclear.verdict is Verdict.INCONCLUSIVE
    assert unclear.hints == ("accuracy on ssh:pi: 20 samples can't tell; use more, or allow a larger drop",)
    assert few.asked == [("pi", 1)]


def test_accuracy_that_nobody_measured_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'old\.edgepack' has no answers"):
        judge(Bench(), devices=["pi"], limits=limits_of([], [], max_drop_points=1.0), names=NAMES)


def test_a_stored_baseline_answers_for_what_has_no_noise() -> None:
    device = DeviceName(transport="ssh", name="pi")
    stored = bench_of({"bundle": [1.0]}, bench="old", device=device, sizes={"bundle": 1000})

    def measure(_device: str, rounds: int) -> Sequence[RunRecord]:
        return bench_of({"bundle": [1.0] * rounds}, bench="new", device=device, sizes={"bundle": 1200})

    result = judge(
        measure,
        devices=["pi"],
        limits=limits_of(["size_bytes"], []),
        names=("latest", "new.edgepack"),
        stored=Stored(runs=tuple(summaries(stored, "bundle"))),
    )

    assert (result.verdict, result.effects[0].value) == (Verdict.FAIL, 1.2)


def test_a_stored_baseline_of_another_runtime_is_refused() -> None:
    stored = bench_of({"bundle": [1.0]}, environment={"runtime_version": "2.0.0"})

    def measure(_device: str, rounds: int) -> Sequence[RunRecord]:
        return bench_of({"bundle": [1.0] * rounds}, bench="new")

    with pytest.raises(UsageError, match="runtime's version"):
        judge(
            measure,
            devices=["pi"],
            limits=limits_of(["peak_memory_bytes"], []),
            names=("latest", "new.edgepack"),
            stored=Stored(runs=tuple(summaries(stored, "bundle"))),
        )


def test_the_whole_gate_rarely_errs() -> None:
    """150 decisions each at 3 % noise: no false alarm, and a true 10 % is found."""
    limits = limits_of([], [])

    def verdicts(factor: float) -> list[Verdict]:
        return [
            judge(Bench(factor, spread=0.03, seed=seed), devices=["pi"], limits=limits, names=NAMES).verdict
            for seed in range(150)
        ]

    assert verdicts(1.0).count(Verdict.FAIL) <= 1
    assert verdicts(1.1).count(Verdict.FAIL) >= 0.9 * 150


def test_the_markdown_has_a_row_a_device_and_metric() -> None:
    limits = limits_of(["latency_p50_ms", "size_bytes"], [])

    text = markdown(judge(Bench(1.1), devices=["pi"], limits=limits, names=NAMES))

    assert text.startswith("### ❌ edgepack gate: FAIL\n")
    assert "| ssh:pi | latency_p50_ms |" in text
    assert "| ssh:pi | size_bytes | 5e+06 | 5e+06 | 1.000 |  | 1.01 | ✅ PASS |" in text
