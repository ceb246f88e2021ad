"""What `edgepack bench` shows on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from edgepack.bench import BenchResult, Measurement
from edgepack.bundle.manifest import Variant
from edgepack.cli.tables import plain_table
from edgepack.cli.terminal import console_on
from edgepack.cli.words import digits, duration, percent, size
from edgepack.records import LayerTime

_LONGEST = 15
_WIDE = 110  # characters


def bench_table(result: BenchResult, variant: Variant, *, title: str) -> Table:
    """Size, quality, latency (or guest instructions) and memory of each measured model, and how they relate to the first."""
    columns = ["model", "size", _metric_name(variant), *_time_columns(result), "peak memory"]
    compared = len(result.measurements) > 1
    if compared:
        columns.append("speed (95 % CI)" if result.measurements[0].clock == "ns" else "fewer instructions")
    rows = []
    for one in result.measurements:
        style = "bold" if one.sha256 == variant.model.sha256 else "default"
        cells = [
            escape(one.label),
            _size(one, result.measurements[0]),
            _quality(one, variant),
            *_times(one, with_p99=_shows_p99(result)),
            size(one.peak_memory_bytes),
        ]
        cells += [_speed(one, result)] if compared else []
        rows.append([f"[{style}]{cell}[/]" for cell in cells])
    return plain_table(escape(title), {name: "left" if name == "model" else "right" for name in columns}, rows)


def accuracy_table(result: BenchResult) -> Table | None:
    """What the models are worth on the device; None where no samples ran."""
    found = [(one.label, one.accuracy) for one in result.measurements if one.accuracy is not None]
    if not found:
        return None
    rows = [
        (
            escape(label),
            percent(one.value),
            f"{len(one.correct):,}",
            "" if one.agreement is None else percent(one.agreement),
            "" if one.max_steps is None else digits(one.max_steps),
        )
        for label, one in found
    ]
    columns = {"on the device": "left", found[0][1].metric.replace("top", "top-"): "right", "samples": "right"}
    return plain_table("", {**columns, "agreement with here": "right", "largest difference, steps": "right"}, rows)


def profile_table(label: str, layers: Sequence[LayerTime]) -> Table:
    """The operators that take longest."""
    total = sum(one.mean_ms for one in layers)
    longest = sorted(layers, key=lambda one: -one.mean_ms)[:_LONGEST]
    rows = [
        (escape(one.source_layer or one.name), one.kind, f"{digits(one.mean_ms)} ms", percent(one.mean_ms / total))
        for one in longest
    ]
    if len(layers) > len(longest):
        rest = total - sum(one.mean_ms for one in longest)
        rows.append((f"{len(layers) - len(longest)} more", "", f"{digits(rest)} ms", percent(rest / total)))
    columns = {"layer": "left", "operator": "left", "an inference": "right", "share": "right"}
    return plain_table(f"{escape(label)}: single operators", columns, rows)


def bench_conditions(result: BenchResult) -> str:
    """Where and how it was measured, in one line."""
    report = result.reports(result.measurements[-1].label)[0]
    environment, threads, runs = report.environment, result.protocol.threads, result.protocol.repetitions
    parts = [
        result.device.name + (f" ({environment.cpu_model})" if environment.cpu_model else ""),
        f"{environment.runtime} {environment.runtime_version}",
        f"{threads} thread{'s' if threads > 1 else ''}",
        f"suite {result.protocol.suite}: {runs} process{'es' if runs > 1 else ''} per model",
    ]
    if environment.clock == "ns":
        parts.append(f"{duration(sum(map(_measured_s, result.measurements)))} of inference")
    if environment.emulated:
        parts.append(f"emulated ({environment.emulated}): no device's times")
    return f"[dim]{escape(' · '.join(parts))}[/]"


def _metric_name(variant: Variant) -> str:
    return "quality" if variant.metric is None else variant.metric.name.replace("top", "top-")


def _time_columns(result: BenchResult) -> list[str]:
    first = result.measurements[0]
    if first.clock == "guest_instructions":
        return ["guest instructions"]
    names = ["p50", "p90", *(["p99"] if _shows_p99(result) else [])]
    return [f"emulated {name}" if first.emulated else name for name in names]


def _shows_p99(result: BenchResult) -> bool:
    """Where there are enough samples for it, and room in the table; --json has it anyway."""
    has_room = console_on(sys.stdout).width >= _WIDE
    return has_room and any(one.pooled and one.pooled.p99_ms for one in result.measurements)


def _times(one: Measurement, *, with_p99: bool) -> list[str]:
    if one.pooled is None or one.p50_ms is None:
        return [f"{one.guest_instructions:,.0f}"]
    times = [one.p50_ms, one.pooled.p90_ms, *([one.pooled.p99_ms] if with_p99 else [])]
    return ["" if value is None else f"{digits(value)} ms" for value in times]


def _size(one: Measurement, base: Measurement) -> str:
    text = size(one.size_bytes)
    return text if one is base else f"{text}  (÷{digits(base.size_bytes / one.size_bytes, 2)})"


def _quality(one: Measurement, variant: Variant) -> str:
    """The build's own figure."""
    if (metric := variant.metric) is None:
        return ""
    value = {variant.model.sha256: metric.value}.get(one.sha256, metric.float_value if one.label == "float" else None)
    return "" if value is None else percent(value)


def _speed(one: Measurement, result: BenchResult) -> str:
    """A ratio of times turned over, so that more is faster."""
    for comparison in result.comparisons:
        if comparison.label == one.label:
            ratio = comparison.ratio
            text = f"{digits(1 / ratio.value)}×"
            if ratio.ci95 is None or one.clock != "ns":
                return text
            low, high = ratio.ci95
            return f"{text}  ({digits(1 / high)} … {digits(1 / low)})"
    return "1×"


def _measured_s(one: Measurement) -> float:
    return 0.0 if one.pooled is None else one.pooled.n * one.pooled.mean_ms / 1e3
