"""A model repository for OpenVINO Model Server, as its docs have it: https://docs.openvino.ai/2026/model-server/ovms_docs_models_repository.html"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.core.errors import UnsupportedError
from edgepack.core.files import write_atomic, write_json

FORMATS = ("openvino", "onnx", "tflite")  # in the order of what the server runs best
VERSION = "1"  # a folder for each version; the server takes the highest
MOUNTED_AT = "/models"  # where the server's container has the repository


def write_ovms(bundle: Bundle, variant: Variant | None, folder: Path) -> None:
    """Write `NAME/1/model.xml` with its `model.bin` (or `model.onnx`, `model.tflite`), and config.json for several models.

    Without a wish the variant that OpenVINO reads best is taken; raises UsageError where two are equally good.
    """
    chosen = variant or _best(bundle)
    if chosen.model.format not in FORMATS:
        raise UnsupportedError(
            f"{bundle.path}: {chosen.target}: OpenVINO Model Server has no place for '{chosen.model.format}' models "
            f"(it takes {', '.join(FORMATS)})"
        )
    name = bundle.manifest.name
    for file in chosen.model.files:
        write_atomic(folder / name / VERSION / PurePosixPath(file.path).name, bundle.read(file.path))
    config = {"config": {"name": name, "base_path": f"{MOUNTED_AT}/{name}"}}
    write_json(folder / "config.json", {"model_config_list": [config]})


def _best(bundle: Bundle) -> Variant:
    for wanted in FORMATS:
        found = [one for one in bundle.manifest.variants if one.model.format == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            break
    return bundle.variant()
