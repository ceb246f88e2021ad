"""How often the gate errs: on real processes of this machine, and simulated.

Rounds of five fresh processes (four of one model, one of a model with exactly 10 % more layers) run in turns, as `edgepack gate` runs them; the run
medians are kept, and the gate's own functions decide on them. EDGEPACK_GATE_MINUTES says how long to measure (default 10; 0: not at all),
EDGEPACK_GATE_POOL a file of medians (one JSON object a round) that is read first and added to.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate_models import make_models
from edgepack.bench import BenchModel, BenchProtocol, bench
from edgepack.core.digest import sha256_file
from edgepack.core.types import Silent
from edgepack.devices.local import LocalTransport
from edgepack.stats import (
    Looks,
    Verdict,
    benjamini_hochberg,
    binomial_ci,
    median_interval,
    signed_rank_p,
    verdict_of,
)

Ratios = NDArray[np.float64]

TOLERANCE = 0.03
_LIMIT = 1 + TOLERANCE
_SAME = ("a1", "a2", "a3", "a4")
_SLOW = "slow"
_PROTOCOL = BenchProtocol(repetitions=2, warmup_min_s=0.1, warmup_max_s=0.5, duration_min_s=0.3)
_REDRAWN = 2000
_SIMULATED = 2000


def run() -> None:
    """Measure, decide, simulate, print."""
    minutes = float(os.environ.get("EDGEPACK_GATE_MINUTES", "10"))
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(os.environ.get("EDGEPACK_GATE_POOL") or Path(folder, "pool.jsonl"))
        if minutes > 0:
            _measure(pool, make_models(Path(folder)), seconds=60 * minutes)
        rounds = [json.loads(line) for line in pool.read_text(encoding="utf-8").splitlines()] if pool.is_file() else []
    if rounds:
        _on_this_machine(rounds)
    _simulated()


def _measure(pool: Path, models: tuple[Path, Path], *, seconds: float) -> None:
    usual, slower = models
    files = {**dict.fromkeys(_SAME, usual), _SLOW: slower}
    asked = [
        BenchModel(label=label, path=file, sha256=sha256_file(file), size_bytes=file.stat().st_size)
        for label, file in files.items()
    ]
    end = time.monotonic() + seconds
    with LocalTransport() as device, pool.open("a", encoding="utf-8") as file:
        while time.monotonic() < end:
            found = bench(asked, device=device, protocol=_PROTOCOL, progress=Silent())
            for number in range(_PROTOCOL.repetitions):
                medians = {
                    one.subject.label: one.metrics["latency_p50_ms"]
                    for one in found.records
                    if one.round == number and one.status == "complete"
                }
                file.write(json.dumps(medians) + "\n")
            file.flush()


def _on_this_machine(rounds: Sequence[dict[str, float]]) -> None:
    same = np.array([one[b] / one[a] for one in rounds for a, b in _pairs_of(one)])
    slower = np.array([one[_SLOW] / one[max(set(one) & set(_SAME))] for one in rounds if _SLOW in one])
    medians = np.array([one["a1"] for one in rounds])
    print(f"{len(rounds)} rounds, {sum(map(len, rounds))} processes of {np.median(medians):.3f} ms an inference")
    print(
        f"run medians spread by {_spread(medians):.1%} (standard deviation of logarithms), ratios of A/A pairs by {_spread(same):.1%}; "
        f"extremes {same.min():.3f} and {same.max():.3f}; the slower model's median ratio is {np.median(slower):.4f}"
    )
    looks = Looks()
    levels = ", ".join(f"{100 * (1 - one) / 2:.2f} %" for one in looks.confidences)
    print(
        f"\ntolerance {TOLERANCE:.0%}, {looks.first} pairs, extended to {looks.total} when inconclusive; tails at the looks: {levels}"
    )
    print(
        f"{'decisions on real pairs':52} {'number':>7} {'FAIL':>7} {'95 % interval':>16} {'PASS':>7} {'open':>7} {'pairs':>6}"
    )
    _row("A/A, both ways round: disjoint", itertools.chain(_stream(same), _stream(1 / same)))
    for name, ratios in (("A/A", same), ("A/A, roles swapped", 1 / same), ("true +10 %", slower)):
        _row(f"{name}: disjoint, each pair used once", _stream(ratios))
        _row(f"{name}: every {looks.total} consecutive pairs", _windows(ratios))
        _row(f"{name}: {looks.total} pairs drawn from all", _redrawn(ratios))
    print(
        f"\nfor comparison, one run each and 'more than 5 % slower': {np.mean(same > 1.05):.1%} false alarms, "
        f"{np.mean(slower > 1.05):.1%} of the true ones found"
    )


def _pairs_of(one: dict[str, float]) -> list[tuple[str, str]]:
    """Neighbours in the order, each process in one pair."""
    return [(a, b) for a, b in (("a1", "a2"), ("a3", "a4")) if b in one]


def _spread(values: Ratios) -> float:
    return float(np.log(values).std())


def decide(ratios: Ratios, looks: Looks) -> tuple[Verdict, int]:
    """What the gate says of these pairs, and how many it looked at."""
    for pairs, confidence in zip((looks.first, looks.total), looks.confidences, strict=True):
        verdict = verdict_of(median_interval(ratios[:pairs], confidence=confidence), _LIMIT)
        if verdict is not Verdict.INCONCLUSIVE:
            return verdict, pairs
    return Verdict.INCONCLUSIVE, looks.total


def _stream(ratios: Ratios) -> Iterator[tuple[Verdict, int]]:
    """One gate after the other, as they would have been run: the next begins where the last one stopped looking."""
    at, looks = 0, Looks()
    while at + looks.total <= len(ratios):
        verdict, pairs = decide(ratios[at:], looks)
        at += pairs
        yield verdict, pairs


def _windows(ratios: Ratios) -> Iterator[tuple[Verdict, int]]:
    """From every pair on: they overlap, so their number says little about the rate's precision."""
    looks = Looks()
    return (decide(ratios[at:], looks) for at in range(len(ratios) - looks.total + 1))


def _redrawn(ratios: Ratios) -> Iterator[tuple[Verdict, int]]:
    generator, looks = np.random.default_rng(0), Looks()
    return (decide(generator.choice(ratios, looks.total), looks) for _ in range(_REDRAWN))


def _row(name: str, decisions: Iterator[tuple[Verdict, int]]) -> None:
    found = list(decisions)
    if not found:
        print(f"{name:52} too few pairs")
        return
    counts, n = Counter(verdict for verdict, _ in found), len(found)
    low, high = binomial_ci(counts[Verdict.FAIL], n)
    shares = [counts[one] / n for one in (Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE)]
    pairs = sum(used for _, used in found) / n
    bounds = f"{low:.1%} … {high:.1%}"
    print(f"{name:52} {n:7,} {shares[0]:7.1%} {bounds:>16} {shares[1]:7.1%} {shares[2]:7.1%} {pairs:6.1f}", flush=True)


def _noises() -> dict[str, Callable[[np.random.Generator, tuple[int, ...]], Ratios]]:
    """Logarithms of ratios of equal models, by name: quiet to very loud, with bursts, with heavy tails, skewed processes."""

    def bursts(generator: np.random.Generator, shape: tuple[int, ...]) -> Ratios:
        loud = generator.random(shape) < 0.15
        return np.where(loud, generator.normal(0, 0.25, shape), generator.normal(0, 0.03, shape))

    def skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> Ratios:
        return np.asarray(generator.gamma(0.5, 0.1, shape) - generator.gamma(0.5, 0.1, shape))

    normal = {
        f"normal, {spread:.0%}": lambda generator, shape, spread=spread: generator.normal(0, spread, shape)
        for spread in (0.01, 0.03, 0.05, 0.08)
    }
    return {
        **normal,
        "3 %, bursts of 25 % in 15 %": bursts,
        "Student's t, 2 degrees, 3 %": lambda generator, shape: 0.03 * generator.standard_t(2, shape),
        "skewed processes (gamma)": skewed,
    }


def _simulated() -> None:
    looks = Looks()
    print(
        f"\nsimulated, {_SIMULATED:,} gates a cell, tolerance {TOLERANCE:.0%}, {looks.first} to {looks.total} pairs; 'edge' is slower by exactly 3 %"
    )
    columns = ("equal FAIL", "equal PASS", "edge FAIL", "edge PASS", "+10 % FAIL", "+10 % PASS")
    print(f"{'spread of a pair':30}" + "".join(f"{one:>12}" for one in columns))
    for name, noise in _noises().items():
        generator = np.random.default_rng(0)
        draws = noise(generator, (_SIMULATED, looks.total))
        cells = []
        for truth in (1.0, _LIMIT, 1.1):
            found = [decide(truth * np.exp(row), looks)[0] for row in draws]
            cells += [found.count(Verdict.FAIL) / len(found), found.count(Verdict.PASS) / len(found)]
        print(f"{name:30}" + "".join(f"{one:12.2%}" for one in cells), flush=True)
    _coverage()
    _needed_pairs()
    _many_devices()


def _coverage() -> None:
    print("\ncoverage of the 95 % interval of the ratio (normal, 5 %), by pairs")
    generator = np.random.default_rng(0)
    shares = {}
    for pairs in (5, 6, 7, 8, 9, 10, 12, 14, 15, 20, 30):
        intervals = [median_interval(row) for row in np.exp(generator.normal(0, 0.05, (_SIMULATED, pairs)))]
        shares[pairs] = np.mean([low <= 1 <= high for low, high in intervals])
    print("  ".join(f"{pairs}: {share:.1%}" for pairs, share in shares.items()), flush=True)


def _needed_pairs() -> None:
    """How many pairs decide, by the spread of a pair: for choosing --pairs and --tolerance."""
    print(
        "\nshare decided rightly (equal: PASS / +10 %: FAIL), tolerance 3 %, by spread of a pair and pairs at the first look"
    )
    firsts = (5, 8, 12, 20, 40)
    print(f"{'spread':8}" + "".join(f"{f'{first} to {_total(first)}':>16}" for first in firsts))
    for spread in (0.01, 0.02, 0.03, 0.05, 0.08):
        generator, cells = np.random.default_rng(0), []
        for first in firsts:
            looks = Looks(first=first, total=_total(first))
            draws = np.exp(generator.normal(0, spread, (_SIMULATED // 4, looks.total)))
            right = [
                np.mean([decide(truth * row, looks)[0] is verdict for row in draws])
                for truth, verdict in ((1.0, Verdict.PASS), (1.1, Verdict.FAIL))
            ]
            cells.append(f"{right[0]:.0%} / {right[1]:.0%}")
        print(f"{spread:<8.0%}" + "".join(f"{one:>16}" for one in cells), flush=True)


def _total(first: int) -> int:
    return round(first * 1.75 / 2) * 2


def _many_devices() -> None:
    """30 devices, 3 of them 12 % slower, the others by exactly the tolerance: with and without Benjamini and Hochberg."""
    generator, repetitions = np.random.default_rng(0), 300
    truth = np.log([1.12] * 3 + [_LIMIT] * 27)
    false, found, alone = [], [], []
    for _ in range(repetitions):
        p = np.array([signed_rank_p(one - np.log(_LIMIT) + generator.normal(0, 0.05, 14)) for one in truth])
        called = np.array(benjamini_hochberg(p)) <= 0.05
        false.append(called[3:].sum() / max(1, called.sum()))
        found.append(called[:3].mean())
        alone.append(bool((p[3:] <= 0.05).any()))
    print(
        "\n30 devices, 3 truly 12 % slower, 27 by exactly 3 %, 14 pairs, spread 5 %: with Benjamini and Hochberg's q ≤ 5 % "
        f"{np.mean(false):.1%} of those called slower are not, {np.mean(found):.0%} of the true ones are found; "
        f"at p ≤ 5 % each, some device is called slower wrongly in {np.mean(alone):.0%}"
    )
