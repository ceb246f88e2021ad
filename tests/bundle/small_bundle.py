"""A small bundle: no real model is needed to test the archive."""

from pathlib import Path
from typing import Any

import numpy as np

from edgepack.bundle.golden import to_npy
from edgepack.bundle.manifest import Variant
from edgepack.core.digest import sha256_bytes

MODEL = bytes(range(96))


def content(**changes: Any) -> dict[str, Any]:
    """A manifest of one variant that fits `files()`, with some keys of either replaced."""
    own = {name: value for name, value in changes.items() if name in Variant.model_fields}
    others = {name: value for name, value in changes.items() if name not in own}
    return {"name": "digits", "version": "1.0.0", "variants": [variant(**own)], **others}


def variant(**changes: Any) -> dict[str, Any]:
    """A variant that fits `files()`, with some keys replaced."""
    grid = {"scale": [0.5], "zero_point": [3], "axis": None}
    return {
        "target": "arm64",
        "model": {
            "path": "model/model.tflite",
            "format": "tflite",
            "sha256": sha256_bytes(MODEL),
            "size_bytes": len(MODEL),
            "precision": "int8",
        },
        "inputs": [{"name": "image", "shape": [1, 2], "dtype": "int8", "layout": "any", "quantization": grid}],
        "outputs": [{"name": "scores", "shape": [1, 3], "dtype": "int8", "layout": "any", "quantization": grid}],
        "checks_passed": True,
        "golden": {
            "inputs": ["golden/input_0.npy"],
            "outputs": ["golden/output_0.npy"],
            "samples": 2,
            "tolerance_steps": 1.0,
        },
        **changes,
    }


def files() -> dict[str, bytes | Path]:
    return {
        "model/model.tflite": MODEL,
        "golden/input_0.npy": to_npy(np.array([[1, 2], [3, 4]], np.int8)),
        "golden/output_0.npy": to_npy(np.array([[1, 2, 3], [-4, 5, -128]], np.int8)),
        "labels.txt": "zéro\none\ntwo\n".encode(),
        "empty.txt": b"",
    }
