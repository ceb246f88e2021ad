"""Bits a weight of the transport coding beside zstd, xz, brotli, Huffman codes and the entropy, with speed of decoding."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.table import Table

from benchmarks.size_baselines import baselines
from benchmarks.size_sets import WeightSet, weight_sets
from edgepack.codec import PROFILES, Coded, Profile, Segment
from edgepack.codec.coders import decode, encode
from edgepack.codec.library import WORK_SIZE_BYTES
from edgepack.codec.parameters import codes_of

Tensors = tuple[tuple[bytes, Segment], ...]
GENERAL = ("zstd -19", "xz", "brotli", "Huffman")


def run() -> None:
    """Code every set in both profiles, and print bits a weight beside the goals; then speed and memory."""
    sizes = Table("weights", "number", *GENERAL, "entropy", *PROFILES, "goal (firm, ambitious)", "small ÷ best other")
    speeds = Table("weights", "profile", "packing, 2 threads", "unpacking, 1 thread")
    only = os.environ.get("EDGEPACK_BENCHMARK_ONLY", "")
    for one in weight_sets():
        if only not in one.name:
            continue
        count = sum(len(codes_of(data, segment)) for data, segment in one.tensors)
        others = baselines((data, codes_of(data, segment)) for data, segment in one.tensors)
        ours = {}
        for profile in PROFILES:
            coded, pack_s = _packed(one.tensors, profile)
            ours[profile] = sum(1 + len(each.params) + len(each.payload) for each in coded)
            unpack_s = _unpacked_s(one.tensors, coded)
            speeds.add_row(
                one.name,
                profile,
                f"{pack_s:.2f} s",
                f"{count / unpack_s / 1e6:.1f} M weights/s",
            )
        sizes.add_row(*_row(one, count, others | {str(name): float(size) for name, size in ours.items()}))
    console = Console(width=170)
    console.print(sizes)
    print(
        "Bits a weight. zstd, xz and brotli code all tensors of a set in one; Huffman includes its tables, entropy (per tensor) has none;"
    )
    print("fast and small include each tensor's coder and parameters.")
    console.print(speeds)
    print(
        f"Beside the output, decoding takes {WORK_SIZE_BYTES >> 20} MiB, whatever the coder: its sources allocate nothing."
    )
    print(
        "nncodec is left out: it pins NumPy < 2 and would move this environment's packages (by hand: 7.36, 3.57, 4.76 and 2.40)."
    )


def _row(one: WeightSet, count: int, bytes_by: dict[str, float]) -> list[str]:
    bits = {name: size * 8 / count for name, size in bytes_by.items()}
    best = min(bits[name] for name in GENERAL)
    goals = f"{one.goals[0]:.2f}, {one.goals[1]:.2f}" if one.goals else ""
    columns = (*GENERAL, "entropy", *PROFILES)
    return [one.name, f"{count:,}", *(f"{bits[name]:.3f}" for name in columns), goals, f"{bits['small'] / best:.3f}"]


def _packed(tensors: Tensors, profile: Profile) -> tuple[list[Coded], float]:
    start = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        coded = list(threads.map(lambda one: encode(one[0], one[1], profile=profile), tensors))
    return coded, time.monotonic() - start


def _unpacked_s(tensors: Tensors, coded: list[Coded]) -> float:
    """Seconds of processor time of one thread."""
    start = time.process_time()
    for (data, segment), each in zip(tensors, coded, strict=True):
        assert decode(each, segment) == data, f"{segment.name}: decoded to something else"
    return time.process_time() - start
