"""A gate's result as markdown, for a job summary or a comment on a pull request."""

from __future__ import annotations

from edgepack.compare import Effect, shown_device
from edgepack.gate.judge import GateResult
from edgepack.stats import Verdict

_SIGNS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCONCLUSIVE: "❔"}


def markdown(result: GateResult) -> str:
    """A heading with the verdict, one table row a device and metric, and hints; GitHub's flavour."""
    lines = [
        f"### {_SIGNS[result.verdict]} edgepack gate: {result.verdict}",
        "",
        f"`{result.bundle}` against `{result.baseline}`",
        "",
        "| device | metric | baseline | bundle | ratio | interval | limit | verdict |",
        "|---|---|--:|--:|--:|--:|--:|---|",
        *(_row(one) for one in result.effects),
    ]
    if result.hints:
        lines += ["", *(f"- {hint}" for hint in result.hints)]
    return "\n".join(lines) + "\n"


def _row(one: Effect) -> str:
    digits = 2 if one.metric == "accuracy" else 3
    bounds = "" if one.interval is None else " … ".join(f"{bound:.{digits}f}" for bound in one.interval)
    unit = " points" if one.metric == "accuracy" else ""
    cells = (
        shown_device(one.device).replace("|", "\\|"),
        one.metric,
        f"{one.a:,.6g}",
        f"{one.b:,.6g}",
        f"{one.value:.{digits}f}{unit}",
        bounds,
        f"{one.limit:g}{unit}",
        f"{_SIGNS[one.verdict]} {one.verdict}",
    )
    return f"| {' | '.join(cells)} |"
