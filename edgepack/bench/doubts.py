"""What makes a result doubtful, and what to try."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgepack.records import AgentReport
from edgepack.stats import P90_SAMPLES_MIN

if TYPE_CHECKING:
    from edgepack.bench.result import Measurement

SPREAD_MAX = 0.05  # MLPerf Mobile: repeated results within 5 %
INSTRUCTIONS_SPREAD_MAX = 0.001
_SLOW_FIRST_RUN = 1.1
_TOO_SHORT_MS = 0.02  # the call from Python costs about a microsecond: 5 % of this


def doubts(measurements: Sequence[Measurement], runs: Mapping[str, Sequence[AgentReport]]) -> list[str]:
    """What makes a result doubtful, and what to try; empty for a good one."""
    found = [line for one in measurements for line in _doubts_of_one(one, runs[one.label])]
    every = [report for group in runs.values() for report in group]
    load, cores = max(report.before.load_average for report in every), every[0].environment.cores
    if load > cores:
        found.append(f"the machine was busy: load average {load:.1f} on {cores} cores; stop other work and repeat")
    if (threads := every[0].threads) > (usable := every[0].environment.usable_cores):
        found.append(f"{threads} threads shared {usable} cores; use at most {usable}")
    if governors := sorted({report.before.governor for report in every} - {None, "performance"}, key=str):
        found.append(f"the CPU governor was '{governors[0]}', so its frequency may vary; set it to 'performance'")
    for label, group in runs.items():
        found += [f"{label}: {note}" for note in dict.fromkeys(n for report in group for n in report.execution.notes)]
    if emulator := every[0].environment.emulated:
        found.append(f"this device is emulated ({emulator}): its times are no device's, and are compared with none")
    if reasons := sorted({str(report.memory.peak_not_reset) for report in every if report.memory.peak_not_reset}):
        found.append(f"peak memory could not be counted from the load on: {reasons[0]}")
    return found


def _doubts_of_one(one: Measurement, runs: Sequence[AgentReport]) -> list[str]:
    found = []
    first, *rest = one.run_medians_ns
    if one.clock == "guest_instructions" and one.spread > INSTRUCTIONS_SPREAD_MAX:
        found.append(
            f"its counts of instructions differ by {one.spread:.2%} (more than {INSTRUCTIONS_SPREAD_MAX:.1%}); is it the deterministic machine?"
        )
    if one.clock == "ns" and one.spread > SPREAD_MAX:
        found.append(f"the runs differ by {one.spread:.0%} (more than {SPREAD_MAX:.0%}); repeat on a quiet machine")
    if one.clock == "ns" and rest and first > _SLOW_FIRST_RUN * statistics.median(rest):
        found.append(f"the first run was {first / statistics.median(rest) - 1:.0%} slower; warm up longer and repeat")
    if one.clock == "ns" and len(runs) < 2:
        found.append("one run can't tell how much runs differ; use more repetitions")
    if one.pooled is not None and one.pooled.n < P90_SAMPLES_MIN:
        found.append(f"{one.pooled.n} samples are too few for a p90 ({P90_SAMPLES_MIN} needed); measure longer")
    if cut := sum(report.stopped_early for report in runs):
        found.append(f"{cut} of {len(runs)} runs reached the time limit before enough iterations; raise the limit")
    if one.clock == "ns" and (unsteady := sum(report.warmup_stable is False for report in runs)):
        found.append(f"{unsteady} of {len(runs)} runs were not stable when the warm-up's bound was reached; raise it")
    if one.p50_ms is not None and one.p50_ms < _TOO_SHORT_MS:
        found.append(f"an inference takes {one.p50_ms * 1e3:.0f} µs; the call itself (about 1 µs) is a part of that")
    return [f"{one.label}: {line}" for line in found]
