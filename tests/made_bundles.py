"""Bundles around real model files, for the tests of what measures them."""

from __future__ import annotations

from pathlib import Path

from bundle.small_bundle import content, files

from edgepack.bundle import write_bundle
from edgepack.bundle.manifest import Manifest
from edgepack.core.digest import sha256_file


def bundle_around(model: Path, path: Path) -> Path:
    """A bundle at `path` with this .tflite file; its golden samples are another model's."""
    entry = {
        "path": "model/model.tflite",
        "format": "tflite",
        "precision": "float32",
        "sha256": sha256_file(model),
        "size_bytes": model.stat().st_size,
    }
    inside = {**files(), "model/model.tflite": model}
    return write_bundle(path, manifest=Manifest.model_validate(content(model=entry)), files=inside)
