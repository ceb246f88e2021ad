"""The manifest of a build: what the stages know, in the words of the bundle's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepack.core.digest import sha256_bytes, sha256_file
from edgepack.data.answers import default_answer_steps
from edgepack.plan import BuildPlan, tool_versions
from edgepack.stages.export import ExportedModel
from edgepack.stages.load import Stored
from edgepack.stages.parity import Parity
from edgepack.stages.precision import export_precision
from edgepack.stages.verify import Verification

RAW_NAME = "golden/raw.npy"


def described(
    plan: BuildPlan,
    loaded: Stored | None,
    baseline: ExportedModel | None,
    exported: ExportedModel,
    verification: Verification,
    parity: Parity,
    recipe_bytes: bytes,
    raw_samples: int | None,
) -> dict[str, Any]:
    """The content of the manifest of a build for one target, its list of files left out; `raw_samples` is how many samples golden/raw.npy has."""
    about = plan.recipe.bundle
    variant = _variant(plan, loaded, baseline, exported, verification, parity, recipe_bytes)
    if raw_samples is not None:
        variant["golden"] |= {"raw": RAW_NAME, "raw_samples": raw_samples}
    return {
        "name": about.name,
        "version": about.version,
        "description": about.description,
        "author": about.author,
        "license": about.license,
        "created_with": tool_versions(),
        "labels": list(plan.labels) if plan.labels else None,
        "preprocess": steps_to_border(plan, exported),
        "postprocess": _answer_steps(plan, exported, verification),
        "variants": [variant],
    }


def _variant(
    plan: BuildPlan,
    loaded: Stored | None,
    baseline: ExportedModel | None,
    exported: ExportedModel,
    verification: Verification,
    parity: Parity,
    recipe_bytes: bytes,
) -> dict[str, Any]:
    artifact = exported.artifact
    return {
        "target": plan.target_name,
        "model": _model(plan, exported),
        "inputs": [_tensor(item) for item in artifact.inputs],
        "outputs": [_tensor(item) for item in artifact.outputs],
        "metric": {
            "name": plan.recipe.metric.name,
            "value": verification.accuracy["artifact"],
            "float_value": verification.accuracy.get("float"),
            "samples": verification.samples,
            "ci95": verification.accuracy_ci95,
            "also": [
                {
                    "name": name,
                    "value": verification.also[name]["artifact"],
                    "float_value": verification.also[name].get("float"),
                }
                for name in plan.recipe.metric.also
            ],
        },
        "checks": [check.as_dict() for check in (*verification.checks, *parity.checks)],
        "checks_passed": verification.passed and all(check.passed for check in parity.checks),
        "golden": {
            "inputs": [f"golden/input_{index}.npy" for index in range(len(artifact.inputs))],
            "outputs": [f"golden/output_{index}.npy" for index in range(len(artifact.outputs))],
            "samples": len(next(iter(verification.golden()[0].values()))),
            "tolerance_steps": plan.recipe.fidelity.max_steps_max,
            "output_steps": None if None in verification.output_steps else list(verification.output_steps),
        },
        "lineage": _lineage(plan, loaded, baseline, exported, verification, recipe_bytes),
    }


def _model(plan: BuildPlan, exported: ExportedModel) -> dict[str, Any]:
    artifact = exported.artifact
    return {
        "path": f"model/{artifact.path.name}",
        "format": artifact.format,
        "runtime": plan.target.runtime,
        "runtime_options": plan.runtime.model_dump(mode="json"),
        "sha256": artifact.sha256,
        "size_bytes": artifact.path.stat().st_size,
        "companions": [
            {"path": f"model/{file.name}", "sha256": sha256_file(file), "size_bytes": file.stat().st_size}
            for file in artifact.companions
        ],
        "precision": export_precision(plan, exported),
    }


def _lineage(
    plan: BuildPlan,
    loaded: Stored | None,
    baseline: ExportedModel | None,
    exported: ExportedModel,
    verification: Verification,
    recipe_bytes: bytes,
) -> dict[str, Any]:
    artifact = exported.artifact
    return {
        "recipe_sha256": sha256_bytes(recipe_bytes),
        "seed": plan.recipe.seed,
        "stages": {
            **({"load": loaded.key} if loaded is not None else {}),
            "export": exported.key,
            "verify": verification.key,
        },
        "weights_sha256": artifact.sha256 if loaded is None else sha256_file(loaded.folder / "state.safetensors"),
        "data": {
            data.role: _data(data.fingerprint)
            for data in (plan.train, plan.calibration, plan.evaluation)
            if data is not None
        },
        "float_model": None
        if baseline is None
        else {
            "key": baseline.key,
            "sha256": baseline.artifact.sha256,
            "size_bytes": baseline.artifact.size_bytes,
        },
        **({} if plan.base is None else {"update_of": plan.base.identity}),
        "steps": [dict(facts) for facts in exported.steps],
        "compression": [{"method": name, **method.model_dump(mode="json")} for name, method in plan.steps],
    }


def steps_to_border(plan: BuildPlan, exported: ExportedModel) -> list[dict[str, Any]]:
    """The preprocessing steps from a raw sample to the file's first input, whose layout may be another than the network's."""
    steps = [dict(step) for step in plan.preprocess]
    if steps and steps[-1]["op"] == "layout" and exported.artifact.inputs[0].layout == "NHWC":
        steps[-1]["to"] = "HWC"
    return steps


def _answer_steps(plan: BuildPlan, exported: ExportedModel, verification: Verification) -> list[dict[str, Any]]:
    output = exported.artifact.outputs[0]
    if plan.postprocess is not None:
        return list(plan.postprocess)
    return list(default_answer_steps(plan.labels, verification.golden()[1][output.name], output.quantization))


def _tensor(item: Any) -> dict[str, Any]:
    grid = item.quantization
    return {
        "name": item.name,
        "shape": list(item.shape),
        "dtype": item.dtype,
        "layout": item.layout,
        "quantization": None
        if grid is None
        else {"scale": list(grid.scale), "zero_point": list(grid.zero_point), "axis": grid.axis},
    }


def _data(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """What names the samples, without the places of files on the machine that builds."""
    return {name: fingerprint[name] for name in ("provider", "count", "seed", "files", "sha256") if name in fingerprint}
