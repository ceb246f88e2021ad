"""A JavaScript module named after the bundle: `await (await load()).predict(imageData)`."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.appkit.answers import app_output
from edgepack.appkit.names import names_of
from edgepack.appkit.raw import raw_npy
from edgepack.appkit.rendering import copy_entries, golden_files, render
from edgepack.appkit.steps import app_input
from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.bundle.parts import Tensor
from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import UnsupportedError
from edgepack.core.files import write_atomic
from edgepack.signing.keys import PublicKey

ONNXRUNTIME_WEB = "1.30.0"  # the one that the tests run in Chromium and Node.js
RAW = PurePosixPath("golden/raw.npy")
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebKit:
    """package.json, the module with its types, the model as an asset, an example page, and a page and a test for the golden samples."""

    formats: tuple[str, ...] = ("onnx",)

    def write(self, bundle: Bundle, variant: Variant, folder: Path, *, trusted_keys: Sequence[PublicKey] = ()) -> None:
        """See AppKit.write. Raises UnsupportedError for a model whose weights lie in a file of their own."""
        if variant.model.companions:
            raise UnsupportedError(f"{bundle.path}: {variant.target}: the app kit 'web' takes models of one file only")
        places = _places(bundle, variant, signed=bool(trusted_keys))
        raw = raw_npy(bundle, variant)
        copied = {name: place for name, place in places.items() if raw is None or place != RAW}
        copy_entries(bundle, {name: PurePosixPath("assets") / place for name, place in copied.items()}, folder)
        if raw is not None:
            write_atomic(folder / "assets" / RAW, raw)
        if "LICENSE" in bundle.names:
            copy_entries(bundle, {"LICENSE": PurePosixPath("LICENSE")}, folder)
        render(_TEMPLATES, folder, _values(bundle, variant, places, trusted_keys))


def _places(bundle: Bundle, variant: Variant, *, signed: bool) -> dict[str, PurePosixPath]:
    """Where entries of the bundle lie in the folder `assets`."""
    model = variant.model.path
    places = {model: PurePosixPath(model).parts[-1:]} | {
        name: ("golden", PurePosixPath(name).name) for name in golden_files(variant)
    }
    if variant.golden is not None and variant.golden.raw is not None:
        places[variant.golden.raw] = RAW.parts
    if signed:
        places |= {name: (name,) for name in ("manifest.json", "signatures.json")}
    return {name: PurePosixPath(*parts) for name, parts in places.items()}


def _values(
    bundle: Bundle, variant: Variant, places: dict[str, PurePosixPath], trusted_keys: Sequence[PublicKey]
) -> dict[str, Any]:
    manifest = bundle.manifest
    names = names_of(manifest.name)
    info = _info(bundle, variant, places, trusted_keys)
    return {
        "json": _json,
        "info": _json(info, indent=2),
        "manifest": manifest,
        "variant": variant,
        "title": f"{manifest.name} {manifest.version}",
        "package": names.package,
        "npm_version": _npm_version(manifest.version),
        "has_top": app_output(bundle, variant).top_k is not None,
        "takes": info["takes"],
        "channels": info["channels"],
        "raw_shape": info["rawShape"],
        "onnxruntime_web": ONNXRUNTIME_WEB,
        "key_ids": [key.key_id for key in trusted_keys],
    }


def _info(
    bundle: Bundle, variant: Variant, places: dict[str, PurePosixPath], trusted_keys: Sequence[PublicKey]
) -> dict[str, Any]:
    """What the module knows of its bundle."""
    manifest, taken = bundle.manifest, app_input(bundle, variant)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "target": variant.target,
        "labels": None if manifest.labels is None else list(manifest.labels),
        "takes": taken.takes,
        "channels": list(taken.channels),
        "rawShape": list(taken.raw_shape),
        "isTurned": taken.turned,
        "inputs": [_tensor(tensor) for tensor in variant.inputs],
        "outputs": [_tensor(tensor) for tensor in variant.outputs],
        "preprocess": [dict(step) for step in taken.steps],
        "postprocess": [dict(step) for step in manifest.postprocess],
        "model": {"path": str(places[variant.model.path]), "sha256": variant.model.sha256},
        "manifestSha256": sha256_bytes(bundle.read("manifest.json")),
        "trustedKeys": [
            {"algorithm": key.algorithm, "keyId": key.key_id, "publicKey": base64.b64encode(key.der).decode()}
            for key in trusted_keys
        ],
        "golden": _golden(bundle, variant, places),
    }


def _golden(bundle: Bundle, variant: Variant, places: dict[str, PurePosixPath]) -> dict[str, Any] | None:
    golden = variant.golden
    if golden is None:
        return None
    digests = {file.path: file.sha256 for file in bundle.manifest.files}
    if golden.raw is not None and (raw := raw_npy(bundle, variant)) is not None:
        digests[golden.raw] = sha256_bytes(raw)  # of a type that JavaScript has, where NumPy's is none
    return {
        "inputs": [str(places[name]) for name in golden.inputs],
        "outputs": [str(places[name]) for name in golden.outputs],
        "raw": None if golden.raw is None else str(places[golden.raw]),
        "samples": golden.samples,
        "rawSamples": golden.raw_samples or 0,
        "toleranceSteps": golden.tolerance_steps,
        "outputSteps": None if golden.output_steps is None else list(golden.output_steps),
        "sha256": {str(places[name]): digests[name] for name in golden.files},
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    grid = tensor.quantization
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "layout": tensor.layout,
        "scale": None if grid is None else grid.scale[0],
        "zeroPoint": 0 if grid is None else grid.zero_point[0],
    }


def _json(value: Any, *, indent: int | None = None) -> str:
    """A JavaScript literal, lists of numbers on one line. `<` is written as an escape, so that no text can end a script element."""
    text = json.dumps(value, indent=indent, ensure_ascii=False).replace("<", "\\u003c")
    return re.sub(r"\[\n +(-?[0-9][^\]\"]*?)\n +\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _npm_version(version: str) -> str:
    """The bundle's version where npm takes it (semver), else 0.0.0 with the bundle's own behind a dash."""
    if re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[A-Za-z][0-9A-Za-z.-]*)?", version):
        return version
    return f"0.0.0-v{re.sub('[^0-9A-Za-z]+', '-', version)}"


WEB = WebKit()
