"""Markdown of a GitHub job summary ($GITHUB_STEP_SUMMARY): a table for each device and protocol, and what did not count."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import BinaryIO

from edgepack.core.errors import UsageError
from edgepack.records import METRICS
from edgepack.store.exports import Kept
from edgepack.store.exports.figures import Figure, Series, series_of

_BYTES_MAX = 1 << 20  # docs.github.com: job summaries are limited to 1 MiB a step
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~&#])")


def write(runs: Iterable[Kept], stream: BinaryIO) -> None:
    """GitHub Flavored Markdown. Raises UsageError where it would be longer than GitHub shows."""
    kept = list(runs)
    tables: dict[tuple[str, str, int, str | None], list[Series]] = {}
    for series in series_of(kept):
        place = (f"{series.device.transport}:{series.device.name}", series.suite, series.threads, series.emulated)
        tables.setdefault(place, []).append(series)
    parts = ["## edgepack bench\n"]
    for (device, suite, threads, emulated), found in tables.items():
        parts.append(f"### {_plain(device)}, suite {_plain(suite)}, {threads} thread{'s' if threads > 1 else ''}\n")
        if emulated:
            parts.append(f"> Emulated by {_plain(emulated)}: these are no times of a real device.\n")
        parts.append(_table(found))
    parts += _uncounted(kept)
    data = "\n".join(parts).encode()
    if len(data) > _BYTES_MAX:
        raise UsageError(
            f"a job summary of {len(data):,} bytes: GitHub shows at most {_BYTES_MAX:,}; choose one bench or device"
        )
    stream.write(data)


def _table(found: list[Series]) -> str:
    names = [name for name in METRICS if any(name in series.figures for series in found)]
    header = [
        "model",
        "runtime",
        "runs",
        *(f"{_plain(name)} ({METRICS[name][1]}, {METRICS[name][0]} is better)" for name in names),
    ]
    lines = [_line(header), _line([":--", ":--", *["--:"] * (len(names) + 1)])]
    for series in found:
        model = " ".join(part for part in (series.subject.bundle, series.subject.version, series.subject.label) if part)
        cells = [_cell(series.figures.get(name)) for name in names]
        runs = max((figure.runs for figure in series.figures.values()), default=0)
        runtime = f"{series.subject.runtime} {series.runtime_version}"
        lines.append(_line([_plain(model), _plain(runtime), str(runs), *cells]))
    return "\n".join(lines) + "\n\nMedian of the process runs (smallest … largest).\n"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.low == figure.high:
        return _number(figure.value)
    return f"{_number(figure.value)} ({_number(figure.low)} … {_number(figure.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10_000 else f"{value:#.4g}".rstrip(".")


def _uncounted(kept: list[Kept]) -> list[str]:
    found = Counter((one.summary.status, one.summary.reason or "") for one in kept if one.summary.status != "complete")
    lines = [f"- {count} × {status}: {_plain(reason)}" for (status, reason), count in found.items()]
    return ["**Runs that don't count:**\n", *lines, ""] if lines else []


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Text that Markdown takes as it is, on one line."""
    line = "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(text.split()))
    return _SPECIAL.sub(r"\\\1", line)
