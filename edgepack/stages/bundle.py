"""Bundle: the model and all that an app needs to use it and to trust it, in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgepack.bundle import Bundle, read_bundle, write_bundle
from edgepack.bundle.card import verification_page
from edgepack.bundle.derived import derived_files
from edgepack.bundle.golden import to_npy
from edgepack.bundle.manifest import Manifest
from edgepack.bundle.update_base import GRID_NAME, grid_report
from edgepack.core.digest import sha256_bytes, sha256_file
from edgepack.core.files import write_atomic
from edgepack.core.types import Progress
from edgepack.data.answers import postprocess_file
from edgepack.data.samples import preprocess_file
from edgepack.plan import BUNDLE_CODE, BuildPlan, code_digest
from edgepack.stages.described import RAW_NAME, described
from edgepack.stages.export import ExportedModel
from edgepack.stages.load import Stored
from edgepack.stages.parity import Parity
from edgepack.stages.raw import raw_golden
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
        {name: sha256_bytes(text) for name, text in plan.texts.items()},
        sha256_bytes(recipe_bytes),
        plan.target_name,
        code_digest(BUNDLE_CODE),
    )
    name = plan.bundle_path.name

    def work(scratch: Path) -> dict[str, Any]:
        progress.start("Packing the bundle")
        inputs, outputs = verification.golden()
        raw = raw_golden(plan, exported, verification)
        manifest = Manifest.model_validate(
            described(
                plan, loaded, baseline, exported, verification, parity, recipe_bytes, None if raw is None else len(raw)
            )
        )
        files: dict[str, bytes | Path] = {
            **_model_files(exported),
            "preprocess.py": preprocess_file(),
            "postprocess.py": postprocess_file(),
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
        if raw is not None:
            files[RAW_NAME] = to_npy(raw)
        files |= plan.texts
        if plan.labels:
            files["labels.txt"] = ("\n".join(plan.labels) + "\n").encode()
        files |= derived_files(manifest)
        write_bundle(scratch / name, manifest=manifest, files=files)
        progress.done()
        return {"sha256": sha256_file(scratch / name), "size_bytes": (scratch / name).stat().st_size}

    folder = cache.run("bundle", key, work, progress=progress)
    made = folder / name
    if not plan.bundle_path.is_file() or sha256_file(plan.bundle_path) != cache.facts(folder)["sha256"]:
        write_atomic(plan.bundle_path, made.read_bytes())
    return read_bundle(plan.bundle_path)


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
        codes=exported.codes,
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


def _recipe_bytes(plan: BuildPlan) -> bytes:
    if plan.recipe_file.is_file():
        return plan.recipe_file.read_bytes()
    return (json.dumps(plan.recipe.model_dump(mode="json"), indent=2, sort_keys=True) + "\n").encode()
