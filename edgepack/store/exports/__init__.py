"""Kept runs for other programs: one file a format, all in this table. docs/results.md has an example of each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from edgepack.core.errors import EnvironmentProblem, UsageError
from edgepack.records import RunRecord, RunSummary

if TYPE_CHECKING:
    from edgepack.store.results import ResultStore, Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A run to export; `record` is there where raw samples are wanted."""

    summary: RunSummary
    record: RunRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Where a format is written, 'module:function'; whether it has a place for raw samples; what it is for."""

    location: str
    help: str
    takes_samples: bool = False


FORMATS: Mapping[str, Format] = {
    "json": Format(
        location="edgepack.store.exports.as_json:write", help="every run, as edgepack has it", takes_samples=True
    ),
    "csv": Format(location="edgepack.store.exports.as_csv:write", help="a line a run, a column a metric"),
    "parquet": Format(
        location="edgepack.store.exports.parquet:write", help="the same, typed, for data frames", takes_samples=True
    ),
    "junit": Format(location="edgepack.store.exports.junit:write", help="a test case a run: Jenkins, GitLab, Azure"),
    "bmf": Format(location="edgepack.store.exports.bmf:write", help="Bencher Metric Format"),
    "github-action-benchmark": Format(
        location="edgepack.store.exports.github_action_benchmark:write_smaller",
        help="customSmallerIsBetter: latency, memory, size",
    ),
    "github-action-benchmark-bigger": Format(
        location="edgepack.store.exports.github_action_benchmark:write_bigger", help="customBiggerIsBetter: accuracy"
    ),
    "github-summary": Format(location="edgepack.store.exports.github_summary:write", help="Markdown of a job summary"),
}


def export(store: ResultStore, where: Where, *, name: str, stream: BinaryIO, samples: bool = False) -> None:
    """Write the runs that fit in a format of FORMATS.

    Raises UsageError where no run fits or the format can't take them, EnvironmentProblem where it needs a package.
    """
    chosen = FORMATS[name]
    if samples and not chosen.takes_samples:
        able = ", ".join(other for other, one in FORMATS.items() if one.takes_samples)
        raise UsageError(f"format {name} has no place for raw samples: leave --samples out, or choose one of: {able}")
    runs = _kept(store, where, samples=samples)
    first = next(runs, None)
    if first is None:
        raise UsageError(
            f"nothing to export: no run in {store.place.shown} fits; 'edgepack results' lists what there is"
        )
    _writer(chosen, name)(_chained(first, runs), stream)


def _kept(store: ResultStore, where: Where, *, samples: bool) -> Iterator[Kept]:
    if samples:
        return (Kept(summary=RunSummary.of(record), record=record) for record in store.runs(where))
    return (Kept(summary=summary) for summary in store.summaries(where))


def _chained(first: Kept, others: Iterator[Kept]) -> Iterator[Kept]:
    yield first
    yield from others


def _writer(chosen: Format, name: str) -> Callable[[Iterable[Kept], BinaryIO], None]:
    module, _, attribute = chosen.location.partition(":")
    try:
        write: Callable[[Iterable[Kept], BinaryIO], None] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as exc:
        what = f"format {name} needs the package '{exc.name}': pip install 'edgepack[{name}]'"
        raise EnvironmentProblem(what) from exc
    return write
