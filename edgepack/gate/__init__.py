"""Decides whether a bundle is worse than a baseline: PASS, FAIL or INCONCLUSIVE, with statistics that survive noise. docs/statistics.md says how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgepack.bundle import read_bundle
from edgepack.compare import Effect, read_side
from edgepack.core.errors import UsageError
from edgepack.core.types import Silent
from edgepack.gate.judge import BASELINE, BUNDLE, GateResult, Measure, Stored, judge
from edgepack.gate.limits import Limits, limits_of
from edgepack.gate.markdown import markdown
from edgepack.gate.measure import Asking, measurer, protocol_of
from edgepack.records import DeviceName
from edgepack.stats import verdict_of_value
from edgepack.suites import load_suite

__all__ = ["Asking", "GateResult", "Limits", "Measure", "gate", "judge", "limits_of", "markdown"]
_SUFFIX = ".edgepack"
_ANYWHERE = DeviceName(transport="none", name="any device")


def gate(
    bundle: Path,
    *,
    baseline: str,
    limits: Limits,
    devices: Sequence[str] = ("local",),
    asking: Asking | None = None,
    suite: str | None = None,
    threads: int | None = None,
) -> GateResult:
    """Judge a bundle against a baseline: another bundle's file, measured now in turns with it, or a stored bench, for what has no noise.

    `suite` and `threads` None: 'quick' and its threads, or those of the stored bench. Raises UsageError for a question that the baseline can't
    answer; a FAIL is a result, not an exception.
    """
    asking = asking or Asking(progress=Silent())
    if limits.max_drop_points is not None and asking.accuracy is None:
        raise UsageError("--max-drop-points: say whose evaluation samples to run, with --accuracy RECIPE")
    if Path(baseline).suffix == _SUFFIX:
        both = {BASELINE: Path(baseline), BUNDLE: bundle}
        names = _names(both)
        if limits.only_size:
            return _by_size(both, names, limits, asking.target)
        with measurer(both, protocol=load_suite(suite or "quick", threads=threads), asking=asking) as measure:
            return judge(measure, devices=devices, limits=limits, names=names)
    if limits.noisy:
        raise UsageError(_not_against_stored(limits.noisy, baseline))
    side = read_side(baseline)
    conditions = side.runs[0].conditions
    for name, given, was in (("suite", suite, conditions.suite), ("threads", threads, conditions.threads)):
        if given not in (None, was):
            raise UsageError(
                f"--{name} {given}: '{baseline}' ran with {was}; leave it out or give the baseline's bundle"
            )
    stored = Stored(runs=side.runs, answers=side.answers)
    with measurer({BUNDLE: bundle}, protocol=protocol_of(conditions), asking=asking) as measure:
        return judge(measure, devices=devices, limits=limits, names=(baseline, bundle.name), stored=stored)


def _names(both: dict[str, Path]) -> tuple[str, str]:
    """The files' names, or their paths where those are alike."""
    first, second = both[BASELINE], both[BUNDLE]
    return (first.name, second.name) if first.name != second.name else (str(first), str(second))


def _not_against_stored(noisy: Sequence[str], baseline: str) -> str:
    return (
        f"{', '.join(noisy)}: '{baseline}' is a stored bench, and what was slower on that day can't be told from what got slower since. "
        "Give the baseline's bundle file, so that both are measured in turns; or judge guest_instructions, size_bytes, memory or accuracy"
    )


def _by_size(both: dict[str, Path], names: tuple[str, str], limits: Limits, target: str | None) -> GateResult:
    """Files need no device."""
    a, b = (float(read_bundle(both[label]).variant_like(target).model.total_bytes) for label in (BASELINE, BUNDLE))
    limit = 1 + limits.tolerances["size_bytes"]
    effect = Effect(
        device=_ANYWHERE,
        metric="size_bytes",
        a=a,
        b=b,
        value=b / a,
        limit=limit,
        interval=None,
        method="value",
        count=1,
        verdict=verdict_of_value(b / a, limit),
    )
    return GateResult(baseline=names[0], bundle=names[1], verdict=effect.verdict, effects=(effect,), hints=())
