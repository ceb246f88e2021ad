from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from made_benches import bench_of, noisy_ms, summaries
from made_runs import DEVICE

from edgepack.compare import Side, compare, compare_sides
from edgepack.core.errors import UsageError
from edgepack.records import DeviceName, RunSummary
from edgepack.stats import Verdict

OTHER = DeviceName(transport="adb", name="pixel")


def slower(factor: float, count: int = 10) -> tuple[list[RunSummary], list[RunSummary]]:
    """Two models of one bench, the second slower by a factor."""
    records = bench_of({"a": noisy_ms(count, seed=1), "b": [factor * one for one in noisy_ms(count, seed=2)]})
    return summaries(records, "a"), summaries(records, "b")


@pytest.mark.parametrize(("factor", "verdict"), [(1.1, Verdict.FAIL), (1.0, Verdict.PASS), (0.8, Verdict.PASS)])
def test_models_of_one_bench_are_paired_by_round_so_that_drift_cancels(factor: float, verdict: Verdict) -> None:
    found = compare(*slower(factor), metrics=["latency_p50_ms"])

    (effect,) = found.effects
    assert (effect.method, effect.count, effect.verdict) == ("paired", 10, verdict)
    assert effect.interval is not None
    assert effect.interval[0] < factor < effect.interval[1]
    assert found.interleaved
    assert not found.notes


def test_two_benches_are_not_paired_and_that_is_said() -> None:
    a = summaries(bench_of({"a": noisy_ms(10, seed=1)}, bench="b1"), "a")
    b = summaries(bench_of({"a": noisy_ms(10, seed=2)}, bench="b2"), "a")

    found = compare(a, b, metrics=["latency_p50_ms"])

    (effect,) = found.effects
    assert (effect.method, effect.verdict) == ("unpaired", Verdict.INCONCLUSIVE)
    assert effect.interval is not None
    assert effect.interval[1] - effect.interval[0] > 0.1, "the drift of 20 % is not cancelled"
    assert not found.interleaved
    assert "not interleaved" in found.notes[0]


def test_all_shared_metrics_are_compared_when_none_is_named() -> None:
    found = compare(*slower(1.0))

    assert [one.metric for one in found.effects] == [
        "latency_p50_ms",
        "latency_p90_ms",
        "load_ms",
        "first_ms",
        "peak_memory_bytes",
        "model_memory_bytes",
        "size_bytes",
        "energy_mj",
    ]


def test_sizes_are_judged_by_value() -> None:
    records = bench_of({"a": [1.0], "b": [1.0]}, sizes={"a": 1000, "b": 1011})

    (effect,) = compare(summaries(records, "a"), summaries(records, "b"), metrics=["size_bytes"]).effects

    assert (effect.value, effect.interval, effect.method, effect.verdict) == (1.011, None, "value", Verdict.FAIL)


def test_instructions_are_judged_by_value_in_one_run_and_never_called_a_latency() -> None:
    records = bench_of({"a": [1.0], "b": [1.02]}, environment={"clock": "guest_instructions", "emulated": "QEMU"})

    found = compare(summaries(records, "a"), summaries(records, "b"))

    verdicts = {one.metric: one.verdict for one in found.effects}
    assert verdicts["guest_instructions"] is Verdict.FAIL
    assert not [name for name in verdicts if "latency" in name]


def test_few_runs_claim_nothing() -> None:
    found = compare(*slower(1.5, count=4), metrics=["latency_p50_ms"])

    assert found.effects[0].verdict is Verdict.INCONCLUSIVE
    assert "4 runs a side are too few" in found.notes[-1]


@pytest.mark.parametrize(
    ("environment", "conditions", "words"),
    [
        ({"runtime_version": "2.0.0"}, {}, "runtime's version: 2.3.1 ('A'), 2.0.0 ('B')"),
        ({"emulated": "QEMU"}, {}, "emulator: none ('A'), QEMU ('B')"),
        ({"clock": "guest_instructions"}, {}, "clock: ns ('A'), guest_instructions ('B')"),
        ({"cpu_model": "Cortex-A53"}, {}, "CPU: Cortex-A76 ('A'), Cortex-A53 ('B')"),
        ({}, {"threads": 4}, "threads: 1 ('A'), 4 ('B')"),
        ({}, {"affinity": None}, "cores it was bound to: (2, 3) ('A'), none ('B')"),
        ({}, {"inputs_sha256": "ab"}, "input samples: none ('A'), ab ('B')"),
        ({}, {"protocol": {"seed": 0, "max_s": 5.0}}, "protocol's max_s: 60.0 ('A'), 5.0 ('B')"),
    ],
)
def test_what_must_match_and_does_not_is_named(
    environment: dict[str, object], conditions: dict[str, object], words: str
) -> None:
    a = summaries(bench_of({"a": [1.0]}), "a")
    b = summaries(bench_of({"a": [1.0]}, bench="b2", environment=environment, conditions=conditions), "a")

    with pytest.raises(UsageError, match="can't be compared") as caught:
        compare(a, b)

    assert words in str(caught.value)


def test_a_side_that_is_not_alike_in_itself_is_refused() -> None:
    mixed = summaries(bench_of({"a": [1.0]}), "a") + summaries(bench_of({"a": [1.0]}, conditions={"threads": 4}), "a")

    with pytest.raises(UsageError, match=r"threads: 1, 4 \('A'\), 1, 4 \('B'\)"):
        compare(mixed, mixed)


def test_the_number_of_repetitions_may_differ() -> None:
    a = summaries(bench_of({"a": [1.0]}, conditions={"protocol": {"seed": 0, "repetitions": 5}}), "a")
    b = summaries(bench_of({"a": [1.0]}, bench="b2", conditions={"protocol": {"seed": 0, "repetitions": 9}}), "a")

    assert compare(a, b, metrics=["size_bytes"]).effects


def test_no_device_in_common_is_refused_with_both() -> None:
    a = summaries(bench_of({"a": [1.0]}), "a")
    b = summaries(bench_of({"a": [1.0]}, device=OTHER), "a")

    with pytest.raises(UsageError, match="'A' ran on ssh:pi5, 'B' on adb:pixel"):
        compare(a, b)


def test_a_difference_that_may_explain_a_ratio_is_a_note() -> None:
    a = summaries(bench_of({"a": [1.0]}), "a")
    b = summaries(bench_of({"a": [1.0]}, bench="b2", environment={"kernel": "6.2.0"}), "a")

    assert "kernel: 6.1.0 ('A'), 6.2.0 ('B')" in compare(a, b, metrics=["size_bytes"]).notes


def test_a_metric_that_is_not_on_both_sides_is_refused() -> None:
    with pytest.raises(UsageError, match="no device has latency_p99_ms on both sides; they share latency_p50_ms"):
        compare(*slower(1.0), metrics=["latency_p50_ms", "latency_p99_ms"])
    with pytest.raises(UsageError, match=r"unknown metric 'latency' \(did you mean"):
        compare(*slower(1.0), metrics=["latency"])


def test_a_chance_find_among_many_devices_does_not_fail() -> None:
    """One of 40 devices looks slower with p = 0.004: among so many that is chance."""
    generator, records = np.random.default_rng(0), []
    for number in range(40):
        a, b = np.exp(generator.normal(0, 0.001, (2, 8)))
        if number == 7:
            b = b * 1.04
        records += bench_of({"a": a, "b": b}, device=DeviceName(transport="ssh", name=f"pi{number}"))

    found = compare(summaries(records, "a"), summaries(records, "b"), metrics=["latency_p50_ms"])

    odd = found.effects[7]
    assert odd.p == pytest.approx(0.5**8)
    assert odd.q == pytest.approx(40 * 0.5**8)
    assert odd.verdict is Verdict.INCONCLUSIVE
    assert {one.verdict for index, one in enumerate(found.effects) if index != 7} == {Verdict.PASS}


def side(name: str, correct: list[bool], bench: str = "b1") -> Side:
    records = bench_of({"a": [1.0]}, bench=bench, correct={"a": correct})
    assert records[0].accuracy is not None
    return Side(name=name, runs=tuple(summaries(records, "a")), answers=((DEVICE, records[0].accuracy),))


def test_accuracy_is_compared_on_the_same_samples() -> None:
    right = [True] * 900 + [False] * 100
    worse = [False] * 30 + [True] * 870 + [False] * 100

    found = compare_sides(side("A", right), side("B", worse, "b2"), metrics=["accuracy"], max_drop_points=1.0)

    (effect,) = found.effects
    assert (effect.value, effect.verdict, effect.count) == (pytest.approx(3.0), Verdict.FAIL, 1000)
    assert effect.p is not None
    assert effect.p < 1e-8


def test_a_drop_that_few_samples_can_not_tell_is_inconclusive() -> None:
    found = compare_sides(side("A", [True] * 50), side("B", [True] * 50, "b2"), metrics=["accuracy"])

    assert found.effects[0].verdict is Verdict.INCONCLUSIVE


def test_accuracy_on_other_samples_is_refused() -> None:
    b = side("B", [True] * 50, "b2")
    other = replace(b, answers=((DEVICE, replace(b.answers[0][1], inputs_sha256="00" * 32)),))

    with pytest.raises(UsageError, match="answered other questions"):
        compare_sides(side("A", [True] * 50), other)
    with pytest.raises(UsageError, match="don't both hold the answers"):
        compare_sides(side("A", [True] * 50), replace(b, answers=()), metrics=["accuracy"])


def test_a_comparison_as_json_holds_what_the_table_shows() -> None:
    content = compare(*slower(1.1), metrics=["latency_p50_ms"]).as_dict()

    assert content["schema"] == "edgepack.compare/1"
    assert content["interleaved"] is True
    assert content["effects"][0]["verdict"] == "FAIL"
    assert content["effects"][0]["device"] == {"transport": "ssh", "name": "pi5"}


def test_300_devices_of_1000_runs_are_compared_in_seconds() -> None:
    a, b = slower(1.0, count=1)
    runs = [
        [
            replace(
                one,
                device=DeviceName(transport="ssh", name=f"pi{device}"),
                bench=bench,
                round=number,
                metrics={"latency_p50_ms": 1.0 + number % 7 / 100},
            )
            for device in range(300)
            for number in range(500)
        ]
        for bench, one in (("b1", a[0]), ("b2", b[0]))
    ]
    started = time.perf_counter()

    found = compare(*runs)

    assert len(found.effects) == 300
    assert time.perf_counter() - started < 8
