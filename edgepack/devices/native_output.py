"""Reads what LiteRT's benchmark_model prints.

The lines are those of tflite/tools/benchmark/benchmark_model.cc in google-ai-edge/LiteRT (formerly tensorflow/lite/…), with the statistics of
StatWithPercentiles; programs before 2024 print no percentiles. Times are microseconds. It tells no single inference but the first of a phase.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_STATS = re.compile(r"\bcount=(?P<count>\d+)(?P<rest>(?: \w+=\S+)*)")
_TIMINGS = re.compile(r"Inference timings in us: Init: (?P<init>[\d.e+]+), First inference: (?P<first>[\d.e+]+)")
_MEMORY = re.compile(
    r"Memory footprint delta from the start of the tool \(MB\): init=(?P<init>\S+) overall=(?P<all>\S+)"
)
_DELEGATE = re.compile(r"Replacing (?P<taken>\d+) out of (?P<nodes>\d+) node\(s\) with delegate \((?P<name>\w+)\)")
_TROUBLE = re.compile(
    r"^(?:ERROR: .*|.*Benchmarking failed.*|.*Failed to .*|.*CANNOT LINK EXECUTABLE.*)$", re.MULTILINE
)
_MEBIBYTE = 2**20  # benchmark_model divides kilobytes of getrusage by 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Statistics over the inferences of a warm-up or of the measured ones, in microseconds. A single inference is `first_us`, exactly."""

    count: int
    first_us: float
    mean_us: float
    median_us: float | None
    p95_us: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeRun:
    """One process of the program. Memory is how much the largest resident size grew, in bytes; None where the program doesn't tell it."""

    init_us: float
    first_us: float
    warmup: Phase
    measured: Phase
    init_grown_bytes: int | None
    overall_grown_bytes: int | None
    delegate: str | None = None
    delegated_nodes: int | None = None
    nodes: int | None = None


def read_run(output: str) -> NativeRun | None:
    """One process's output; None when it did not come to its end."""
    phases = [_phase(match) for match in _STATS.finditer(output.replace("(all same)", ""))]
    timings, memory, delegates = _TIMINGS.search(output), _MEMORY.search(output), list(_DELEGATE.finditer(output))
    if timings is None or len(phases) != 2:
        return None
    delegate = delegates[0] if delegates else None  # the first takes the most; later ones are of other subgraphs
    return NativeRun(
        init_us=float(timings["init"]),
        first_us=float(timings["first"]),
        warmup=phases[0],
        measured=phases[1],
        init_grown_bytes=None if memory is None else round(float(memory["init"]) * _MEBIBYTE),
        overall_grown_bytes=None if memory is None else round(float(memory["all"]) * _MEBIBYTE),
        delegate=None if delegate is None else delegate["name"],
        delegated_nodes=None if delegate is None else int(delegate["taken"]),
        nodes=None if delegate is None else int(delegate["nodes"]),
    )


def trouble_in(output: str) -> str:
    """What the program complained of, else its last line."""
    complaints = _TROUBLE.findall(output)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "; ".join(complaints[:3]) or (lines[-1] if lines else "it said nothing")


def _phase(match: re.Match[str]) -> Phase:
    """'count=50 first=33228 curr=33130 min=32687 max=33239 avg=33071.8 std=129'; equal ones are 'count=2 curr=40000(all same)'."""
    values = {key: float(value) for key, _, value in (word.partition("=") for word in match["rest"].split())}
    first = values.get("first", values.get("curr", 0.0))
    return Phase(
        count=int(match["count"]),
        first_us=first,
        mean_us=values.get("avg", first),
        median_us=values.get("median"),
        p95_us=values.get("p95"),
    )
