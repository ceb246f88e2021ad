"""Parity: do the runtimes say the same? One table over every model of a build, on the same samples.

Each runtime is compared with the compressed network that it was exported from, and with every other runtime.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack import stats
from edgepack.core.files import write_json
from edgepack.core.types import Array, Check, Progress
from edgepack.plan import BuildPlan
from edgepack.recipe.judging import MetricSection
from edgepack.stages.evaluate import Evaluated, Outputs
from edgepack.stages.export import ExportedModel
from edgepack.stages.judge import judged_output, steps_apart
from edgepack.stages.quality import flat, metric_ci, metric_value, metric_values
from edgepack.stages.samples import open_role
from edgepack.store.cache import StageCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model in the table.

    `agreement`, `mean_steps` and `max_steps` compare it with the compressed network that it comes from (None for the original and the
    compressed network itself); `device` and `types` say what really ran; `judged` is False for a witness; `also` has the recipe's further metrics.
    """

    name: str
    kind: Literal["float", "compressed", "runtime"]
    target: str
    runtime: str
    version: str
    metric: float
    metric_ci95: tuple[float, float]
    agreement: float | None = None
    agreement_ci95: tuple[float, float] | None = None
    mean_steps: float | None = None
    max_steps: float | None = None
    device: str = ""
    types: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    judged: bool = True
    also: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two runtimes beside each other; `same_grid` says whether they come from the same compressed network."""

    a: str
    b: str
    agreement: float
    metric_difference_points: float
    mean_steps: float
    max_steps: float
    same_grid: bool
    judged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The table, and the checks over its pairs. `not_run` has what can't run on this machine, with the reason."""

    key: str
    folder: Path
    metric: str
    samples: int
    inputs_sha256: str
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    not_run: Mapping[str, str]
    checks: tuple[Check, ...]

    @property
    def file(self) -> Path:
        """The table as JSON."""
        return self.folder / "parity.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A runtime of the build: its row, its outputs and those of its compressed network."""

    row: Row
    outputs: Array
    compressed_key: str | None
    step: float | None


def parity(
    plans: Sequence[BuildPlan],
    cache: StageCache,
    exported: Sequence[ExportedModel],
    evaluated: Sequence[Evaluated],
    progress: Progress,
) -> Parity:
    """The parity table of a build. `exported` and `evaluated` go with `plans`."""
    recipe = plans[0].recipe
    key = plans[0].key(
        "parity",
        [[plan.target_name, found.key] for plan, found in zip(plans, evaluated, strict=True)],
        recipe.metric.model_dump(mode="json"),
        recipe.parity.model_dump(mode="json"),
    )

    def work(scratch: Path) -> dict[str, Any]:
        write_json(scratch / "parity.json", _table(plans, exported, evaluated))
        return {}

    return _read(key, cache.run("parity", key, work, progress=progress))


def _table(
    plans: Sequence[BuildPlan], exported: Sequence[ExportedModel], evaluated: Sequence[Evaluated]
) -> dict[str, Any]:
    first = plans[0]
    labels = open_role(first, first.evaluation, labelled=True).labels
    assert labels is not None
    metric, output = first.recipe.metric, judged_output(first, exported[0])
    original = evaluated[0].original
    rows = [] if original is None else [_torch_row(original, "float", "", output, labels, metric)]
    seen: set[str] = set()
    entries: list[_Entry] = []
    for plan, found in zip(plans, evaluated, strict=True):
        if found.compressed is not None and found.compressed.key not in seen:
            seen.add(found.compressed.key)
            group = ", ".join(plan.grid_targets)
            rows.append(_torch_row(found.compressed, "compressed", group, output, labels, metric))
        entries += _entries(plan, found, output, labels, metric)
    pairs = [_pair(a, b) for a, b in itertools.combinations(entries, 2)]
    digests = {item.facts["inputs_sha256"] for one in evaluated for item in one.all}
    assert len(digests) == 1, "models were evaluated on different bytes"
    return {
        "metric": metric.name,
        "output": output,
        "samples": len(labels),
        "inputs_sha256": digests.pop(),
        "rows": [asdict(row) for row in (*rows, *(entry.row for entry in entries))],
        "pairs": [asdict(pair) for pair in pairs],
        "not_run": {
            f"{plan.target_name}: {name}": reason
            for plan, found in zip(plans, evaluated, strict=True)
            for name, reason in found.not_run.items()
        },
        "checks": [check.as_dict() for check in _checks(first, pairs, len(labels))],
    }


def _torch_row(
    outputs: Outputs,
    kind: Literal["float", "compressed"],
    target: str,
    output: str,
    labels: NDArray[np.int64],
    metric: MetricSection,
) -> Row:
    import torch

    values = outputs.arrays()[output]
    return Row(
        name="float" if kind == "float" else f"compressed ({target})",
        kind=kind,
        target=target,
        runtime="torch",
        version=torch.__version__.partition("+")[0],
        metric=metric_value(values, labels, metric.name),
        metric_ci95=metric_ci(values, labels, metric.name),
        also=metric_values(values, labels, metric.also),
    )


def _entries(
    plan: BuildPlan, found: Evaluated, output: str, labels: NDArray[np.int64], metric: MetricSection
) -> list[_Entry]:
    compressed = None if found.compressed is None else found.compressed.arrays()[output]
    entries = []
    for runtime, outputs in {plan.target.runtime: found.artifact, **found.witnesses}.items():
        values = outputs.arrays()[output]
        comparison = {} if compressed is None else _against(compressed, values, found.step(output))
        execution = outputs.facts["execution"]
        row = Row(
            name=f"{plan.target_name} · {runtime}",
            kind="runtime",
            target=plan.target_name,
            runtime=runtime,
            version=outputs.facts["version"],
            metric=metric_value(values, labels, metric.name),
            metric_ci95=metric_ci(values, labels, metric.name),
            also=metric_values(values, labels, metric.also),
            **comparison,
            device=execution["device"],
            types=execution["types"],
            notes=tuple(execution["notes"]),
            judged=outputs is found.artifact,
        )
        entries.append(
            _Entry(
                row=row,
                outputs=values,
                compressed_key=None if found.compressed is None else found.compressed.key,
                step=found.step(output),
            )
        )
    return entries


def _against(compressed: Array, values: Array, step: float | None) -> dict[str, Any]:
    """How a runtime's outputs compare with those of the compressed network."""
    count = len(values)
    agree = int((flat(compressed).argmax(1) == flat(values).argmax(1)).sum())
    steps = steps_apart(compressed, values, step)
    return {
        "agreement": agree / count,
        "agreement_ci95": stats.binomial_ci(agree, count),
        "mean_steps": float(steps.mean()),
        "max_steps": round(float(steps.max()), 3),
    }


def _pair(a: _Entry, b: _Entry) -> Pair:
    steps = steps_apart(a.outputs, b.outputs, a.step)
    return Pair(
        a=a.row.name,
        b=b.row.name,
        agreement=float((flat(a.outputs).argmax(1) == flat(b.outputs).argmax(1)).mean()),
        metric_difference_points=round(100 * (a.row.metric - b.row.metric), 6),
        mean_steps=float(steps.mean()),
        max_steps=round(float(steps.max()), 3),
        same_grid=a.compressed_key == b.compressed_key,
        judged=a.row.judged and b.row.judged,
    )


def _checks(plan: BuildPlan, pairs: Sequence[Pair], samples: int) -> list[Check]:
    """The worst of the pairs that come from one compressed network, against the recipe's limits."""
    limits = plan.recipe.parity
    pairs = [pair for pair in pairs if pair.same_grid and pair.judged]
    if not pairs:
        return []
    agreement = min(pairs, key=lambda pair: pair.agreement)
    points = max(pairs, key=lambda pair: abs(pair.metric_difference_points))
    steps = max(pairs, key=lambda pair: pair.mean_steps)
    return [
        Check(
            kind="parity", name="top1_agreement", value=agreement.agreement, limit=limits.top1_agreement_min, direction="min",
            samples=samples, ci95=stats.binomial_ci(round(agreement.agreement * samples), samples), method=_worst(agreement),
        ),
        Check(
            kind="parity", name="metric_difference_points", value=abs(points.metric_difference_points), limit=limits.metric_difference_points_max,
            direction="max", samples=samples, method=_worst(points),
        ),
        Check(
            kind="parity", name="mean_steps", value=steps.mean_steps, limit=limits.mean_steps_max, direction="max", samples=samples,
            method=_worst(steps),
        ),
    ]  # fmt: skip


def _worst(pair: Pair) -> str:
    return f"worst pair of runtimes: {pair.a} and {pair.b}"


def _read(key: str, folder: Path) -> Parity:
    content = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    return Parity(
        key=key,
        folder=folder,
        metric=content["metric"],
        samples=content["samples"],
        inputs_sha256=content["inputs_sha256"],
        rows=tuple(_row(item) for item in content["rows"]),
        pairs=tuple(Pair(**item) for item in content["pairs"]),
        not_run=content["not_run"],
        checks=tuple(Check.from_dict(item) for item in content["checks"]),
    )


def _row(item: dict[str, Any]) -> Row:
    agreement = item["agreement_ci95"]
    return Row(
        **{
            **item,
            "metric_ci95": tuple(item["metric_ci95"]),
            "agreement_ci95": None if agreement is None else tuple(agreement),
            "notes": tuple(item["notes"]),
        }
    )
