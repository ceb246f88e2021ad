"""A Python package named after the bundle: `predict(image)` gives a label and a score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.appkit.names import Names, names_of
from edgepack.appkit.rendering import copy_entries, golden_files, pinned_files, render
from edgepack.appkit.steps import AppInput, app_input
from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.core.errors import UnsupportedError
from edgepack.core.files import write_atomic
from edgepack.signing.keys import PublicKey

_HERE = Path(__file__).parent
_REFERENCES = ("preprocess.py", "postprocess.py")
_LIBRARIES = {
    "tflite": ("LiteRT", "ai-edge-litert"),
    "onnx": ("ONNX Runtime", "onnxruntime"),
    "openvino": ("OpenVINO", "openvino"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonKit:
    """pyproject.toml, the package with model and labels as its data, a command and tests."""

    formats: tuple[str, ...] = ("tflite", "onnx", "openvino")

    def write(self, bundle: Bundle, variant: Variant, folder: Path, *, trusted_keys: Sequence[PublicKey] = ()) -> None:
        """See AppKit.write. Raises UnsupportedError for a bundle without the reference implementations."""
        for name in _REFERENCES:
            if name not in bundle.names:
                raise UnsupportedError(f"{bundle.path}: has no {name}, which the package runs; build the bundle again")
        names = names_of(bundle.manifest.name)
        package = PurePosixPath("src") / names.module
        data = dict(_data_places(bundle, variant, signed=bool(trusted_keys)))
        copies = {name: package / name for name in _REFERENCES}
        copies |= {name: package / "data" / place for name, place in data.items()}
        copies |= {name: PurePosixPath("tests/golden") / PurePosixPath(name).name for name in golden_files(variant)}
        copies |= {name: PurePosixPath(name) for name in ("LICENSE",) if name in bundle.names}
        copy_entries(bundle, copies, folder)
        values = _values(bundle, variant, names, app_input(bundle, variant), data, trusted_keys)
        render(_HERE / "templates", folder, values, places={"PACKAGE": names.module})
        runtime = (_HERE / "runtimes" / f"{variant.model.format}.py").read_bytes()
        write_atomic(folder / package / "_runtime.py", runtime)


def _data_places(bundle: Bundle, variant: Variant, *, signed: bool) -> dict[str, PurePosixPath]:
    """Where the files that the package loads lie in its data folder, by entry name."""
    names = list(pinned_files(bundle, variant))
    if signed:
        names += ["manifest.json", "signatures.json"]
    return {name: PurePosixPath(PurePosixPath(name).name) for name in names}


def _values(
    bundle: Bundle,
    variant: Variant,
    names: Names,
    taken: AppInput,
    data: dict[str, PurePosixPath],
    trusted_keys: Sequence[PublicKey],
) -> dict[str, Any]:
    manifest, model = bundle.manifest, variant.model
    library, distribution = _LIBRARIES[model.format]
    pins = pinned_files(bundle, variant)
    steps = [dict(step) for step in manifest.postprocess]
    return {
        "names": names,
        "manifest": manifest,
        "variant": variant,
        "taken": taken,
        "version": _python_version(manifest.version),
        "library": library,
        "distribution": distribution,
        "verified_with": manifest.created_with.get(distribution, ""),
        "pins": {str(data[name]): {"entry": name, "sha256": pins[name][0]} for name in pins},
        "model_files": [str(data[file.path]) for file in model.files],
        "labelled": "labels.txt" in data,
        "preprocess": [dict(step) for step in manifest.preprocess],
        "score_steps": [step for step in steps if step["op"] != "top_k"],
        "top_k": next((step for step in steps if step["op"] == "top_k"), None),
        "input_grid": _grid(variant.inputs[0]),
        "output_grid": _grid(variant.outputs[0]),
        "keys": [(key.key_id, key.der.hex()) for key in trusted_keys],
        "golden": variant.golden,
    }


def _grid(tensor: Any) -> dict[str, Any] | None:
    return None if tensor.quantization is None else dict(tensor.quantization.model_dump(mode="json"))


def _python_version(version: str) -> str:
    """The bundle's version where Python takes it (PEP 440), else 0 with the bundle's own as local part."""
    if re.fullmatch(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?", version):
        return version
    return f"0+{re.sub('[^A-Za-z0-9]+', '.', version).strip('.')}"


PYTHON = PythonKit()
