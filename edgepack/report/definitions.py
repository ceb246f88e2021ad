"""What each number on the page means and how it was computed, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A number's short name in a table head, its unit there, and what it means."""

    head: str
    unit: str
    words: str


_MEDIAN = "The row shows the median over its runs, each a fresh process, and Student's 95 % interval over the runs."

DEFINITIONS: Mapping[str, Definition] = {
    "latency_p50_ms": Definition(
        head="p50",
        unit="ms",
        words="Half of a run's inferences took less (Hyndman–Fan type 7, warm-up apart, no sample dropped). " + _MEDIAN,
    ),
    "latency_p90_ms": Definition(
        head="p90",
        unit="ms",
        words="Nine of ten inferences of a run took less. "
        + _MEDIAN
        + " (edgepack bench prints the p90 of all samples of one bench together.)",
    ),
    "latency_p99_ms": Definition(
        head="p99",
        unit="ms",
        words="99 of 100 inferences of a run took less. Shown only where every run has at least 662 samples, "
        "as MLPerf Inference asks. " + _MEDIAN,
    ),
    "emulated_p50_ms": Definition(
        head="emulated p50",
        unit="ms",
        words="As p50, by the clock of an emulated machine. It says nothing about a real device's time.",
    ),
    "emulated_p90_ms": Definition(
        head="emulated p90", unit="ms", words="As p90, by the clock of an emulated machine. No real device's time."
    ),
    "guest_instructions": Definition(
        head="guest instructions",
        unit="",
        words="Instructions that an emulated machine ran for one inference; the median of a run's samples. "
        "A proxy for work, never a latency.",
    ),
    "load_ms": Definition(
        head="load",
        unit="ms",
        words="Reading the model file and making it ready to run. The file was read once before, for its checksum, "
        "so it comes from the page cache. " + _MEDIAN,
    ),
    "first_ms": Definition(head="first", unit="ms", words="The first inference after the load. " + _MEDIAN),
    "peak_memory_bytes": Definition(
        head="peak memory",
        unit="bytes",
        words="The largest resident memory of the whole process from the load on (VmHWM), with Python, NumPy and the "
        "runtime. The row shows the largest of its runs.",
    ),
    "model_memory_bytes": Definition(
        head="model memory",
        unit="bytes",
        words="That peak less what was resident just before the load: what the model added. " + _MEDIAN,
    ),
    "energy_mj": Definition(
        head="energy",
        unit="mJ",
        words="Energy of the whole device over the measured window, divided by its inferences. " + _MEDIAN,
    ),
    "size_bytes": Definition(head="size", unit="bytes", words="Bytes of the model file."),
    "accuracy": Definition(
        head="accuracy",
        unit="share",
        words="The share of evaluation samples on which the model was right, on this device, on the same preprocessed "
        "bytes as in verification; Wilson's 95 % interval of a share.",
    ),
}
