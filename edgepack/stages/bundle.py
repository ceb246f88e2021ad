"""Bundle: the model and all that an app needs to use it and to trust it, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepack.bundle import Bundle, read_bundle, write_bundle
from edgepack.bundle.base import GRID_NAME, grid_report
from edgepack.bundle.card import model_card, verification_page
from edgepack.bundle.golden import to_npy
from edgepack.bundle.manifest import SCHEMA_VERSION, Manifest
from edgepack.core.digest import sha256_bytes, sha256_file
from edgepack.core.files import write_atomic
from edgepack.core.types import Progress
from edgepack.data.samples import preprocess_file
from edgepack.plan import BuildPlan, tool_versions
from edgepack.stages.export import ExportedModel
from edgepack.stages.load import Stored
from edgepack.stages.parity import Parity
from edgepack.stages.verify import Verification
from edgepack.store.cache import StageCache


def bundle(
    plan: BuildPlan,
    cache: StageCache,
    loaded: Stored | None,
    baseline: ExportedModel | None,
    exported: ExportedModel,
    verification: Verification,
    parity: Parity,
    progress: Progress,
) -> Bundle:
    """Write the bundle and copy it to the dist folder. The same inputs give the same bytes."""
    recipe_bytes = _recipe_bytes(plan)
    key = plan.key(
        "bundle",
        exported.key,
        None if baseline is None else baseline.key,
        verification.key,
        parity.key,
        plan.recipe.bundle.model_dump(mode="json"),
        list(plan.labels or ()),
        sha256_bytes(recipe_bytes),
        plan.target_name,
        SCHEMA_VERSION,
    )
    name = plan.bundle_path.name

    def work(scratch: Path) -> dict[str, Any]:
        progress.start("Packing the bundle")
        inputs, outputs = verification.golden()
        manifest = Manifest.model_validate(
            _manifest(plan, loaded, baseline, exported, verification, parity, recipe_bytes)
        )
        files: dict[str, bytes | Path] = {
            **_model_files(exported),
            "preprocess.py": preprocess_file(),
            "recipe.toml" if plan.recipe_file.is_file() else "recipe.json": recipe_bytes,
            "reports/parity.json": parity.file,
            "reports/tensors.json": _tensors(exported),
            **_grid(plan, exported),
            "reports/verify.json": verification.folder / "verify.json",
            "reports/verify.md": _report(manifest, verification, parity).encode(),
        }
        (variant,) = manifest.variants
        golden = variant.golden
        assert golden is not None
        files |= {path: to_npy(inputs[item.name]) for path, item in zip(golden.inputs, variant.inputs, strict=True)}
        files |= {path: to_npy(outputs[item.name]) for path, item in zip(golden.outputs, variant.outputs, strict=True)}
        if plan.labels:
            files["labels.txt"] = ("\n".join(plan.labels) + "\n").encode()
        files["README.md"] = model_card(manifest).encode()
        write_bundle(scratch / name, manifest=manifest, files=files)
        progress.done()
        return {"sha256": sha256_file(scratch / name), "size_bytes": (scratch / name).stat().st_size}

    folder = cache.run("bundle", key, work, progress=progress)
    made = folder / name
    if not plan.bundle_path.is_file() or sha256_file(plan.bundle_path) != cache.facts(folder)["sha256"]:
        write_atomic(plan.bundle_path, made.read_bytes())
    return read_bundle(plan.bundle_path)


def _manifest(
    plan: BuildPlan,
    loaded: Stored | None,
    baseline: ExportedModel | None,
    exported: ExportedModel,
    verification: Verification,
    parity: Parity,
    recipe_bytes: bytes,
) -> dict[str, Any]:
    about = plan.recipe.bundle
    return {
        "name": about.name,
        "version": about.version,
        "description": about.description,
        "author": about.author,
        "license": about.license,
        "created_with": tool_versions(),
        "labels": list(plan.labels) if plan.labels else None,
        "preprocess": list(plan.preprocess),
        "variants": [_variant(plan, loaded, baseline, exported, verification, parity, recipe_bytes)],
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
        "precision": _precision(plan, exported),
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


def _precision(plan: BuildPlan, exported: ExportedModel) -> str:
    if plan.source.abilities.finished:
        is_integer = any(kind in exported.execution.types for kind in ("i8", "u8"))
        return "int8" if is_integer else "float32"
    return "int8" if any(name == "quantize" for name, _ in plan.steps) else plan.recipe.export.float_dtype


def _model_files(exported: ExportedModel) -> dict[str, bytes | Path]:
    return {f"model/{file.name}": file for file in (exported.artifact.path, *exported.artifact.companions)}


def _tensors(exported: ExportedModel) -> bytes:
    """Which tensor of the model is which operation of the network, on which grid: what `edgepack diff` reads."""
    content = {
        name: {
            "operation": operation,
            "scale": list(grid.scale),
            "zero_point": list(grid.zero_point),
            "dtype": grid.dtype,
        }
        for name, (operation, grid) in exported.tensors.items()
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def _grid(plan: BuildPlan, exported: ExportedModel) -> dict[str, bytes | Path]:
    """What a later build keeps that updates this bundle."""
    if exported.grid is None:
        return {}
    artifact = exported.artifact
    report = grid_report(
        exported.grid,
        targets=plan.grid_targets,
        constraints=plan.constraints.model_dump(mode="json"),
        edits=exported.edits,
        files={file.name: file.read_bytes() for file in (artifact.path, *artifact.companions)},
    )
    return {GRID_NAME: report}


def _report(manifest: Manifest, verification: Verification, parity: Parity) -> str:
    layers = [layer.as_dict() for layer in verification.layers]
    return verification_page(
        manifest.title,
        (*verification.checks, *parity.checks),
        layers,
        verification.notes,
        json.loads(parity.file.read_text(encoding="utf-8")),
    )


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


def _recipe_bytes(plan: BuildPlan) -> bytes:
    if plan.recipe_file.is_file():
        return plan.recipe_file.read_bytes()
    return (json.dumps(plan.recipe.model_dump(mode="json"), indent=2, sort_keys=True) + "\n").encode()
