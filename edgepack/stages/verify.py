"""Verify: is the export faithful, is the compression affordable, does it fit the budget? Each a number against a limit.

The three are asked apart because their cures differ. All are asked of the very file that ships, on the same samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.core.types import Array, Check, Progress
from edgepack.plan import BuildPlan
from edgepack.stages.divergence import LayerDifference, first_divergence
from edgepack.stages.export import ExportedModel
from edgepack.stages.judge import Judge
from edgepack.stages.load import Stored
from edgepack.store.cache import StageCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found. `accuracy` has the metric of the original ('float'), the compressed network ('compressed') and the artifact
    ('artifact'); `layers` compares tensors in execution order; golden inputs and outputs are arrays of the artifact's own types."""

    key: str
    folder: Path
    checks: tuple[Check, ...]
    accuracy: Mapping[str, float]
    accuracy_ci95: tuple[float, float]
    samples: int
    layers: tuple[LayerDifference, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def golden(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Golden inputs and outputs by name."""
        with np.load(self.folder / "golden.npz", allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        return (
            {name.removeprefix("in:"): array for name, array in arrays.items() if name.startswith("in:")},
            {name.removeprefix("out:"): array for name, array in arrays.items() if name.startswith("out:")},
        )


def verify(
    plan: BuildPlan,
    cache: StageCache,
    loaded: Stored,
    compressed: Stored,
    exported: ExportedModel,
    measured: tuple[Check, ...],
    progress: Progress,
) -> Verification:
    """Run original, compressed network and artifact over the evaluation samples and judge. `measured` are checks made on a device."""
    recipe = plan.recipe
    key = plan.key(
        "verify",
        exported.key,
        loaded.key,
        dict(plan.evaluation.fingerprint),
        recipe.metric.model_dump(mode="json"),
        recipe.fidelity.model_dump(mode="json"),
        recipe.budget.model_dump(mode="json"),
        [check.as_dict() for check in measured],
        plan.target.limits.threads,
        recipe.bundle.labels if isinstance(recipe.bundle.labels, str) else None,
    )

    def work(scratch: Path) -> dict[str, Any]:
        judge = Judge(plan, cache, loaded, compressed, exported, progress)
        return judge.run(scratch, measured)

    return _read(key, cache.run("verify", key, work, progress=progress))


def failure_report(verification: Verification) -> str:
    """Which checks failed, by how much, and which layer diverges first."""
    lines = []
    for check in verification.checks:
        if not check.passed:
            relation = "above" if check.direction == "max" else "below"
            interval = f", 95 % CI {check.ci95[0]:.4g} … {check.ci95[1]:.4g}" if check.ci95 else ""
            count = f" on {check.samples} samples" if check.samples else ""
            lines.append(
                f"{check.kind}: {check.name} = {check.value:.6g} is {relation} its limit {check.limit:.6g}{count}{interval}"
            )
    if any(check.kind == "fidelity" and not check.passed for check in verification.checks):
        layer = first_divergence(list(verification.layers))
        if layer is not None:
            lines.append(
                f"first layer to diverge: {layer.operation} (tensor '{layer.tensor}'), {layer.sqnr_db:.1f} dB, mean {layer.mean_steps:.2f} steps"
            )
    return "\n".join(lines)


def _read(key: str, folder: Path) -> Verification:
    content = json.loads((folder / "verify.json").read_text(encoding="utf-8"))
    return Verification(
        key=key,
        folder=folder,
        checks=tuple(_check(item) for item in content["checks"]),
        accuracy=content["accuracy"],
        accuracy_ci95=tuple(content["accuracy_ci95"]),
        samples=content["samples"],
        layers=tuple(LayerDifference(**item) for item in content["layers"]),
    )


def _check(item: dict[str, Any]) -> Check:
    values = {name: value for name, value in item.items() if name != "passed"}
    return Check(**{**values, "ci95": None if values["ci95"] is None else tuple(values["ci95"])})
