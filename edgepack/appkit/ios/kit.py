"""A Swift package named after the bundle: `try TinyModel().predict(cgImage)`, its steps in the same C as in other kits."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.appkit.answers import app_output, input_bytes
from edgepack.appkit.ios.code import ELEMENT_TYPES, SWIFT_TYPES, answer_calls, pipeline, swift_text
from edgepack.appkit.names import names_of
from edgepack.appkit.raw import golden_step, raw_npy
from edgepack.appkit.rendering import copy_entries, render
from edgepack.appkit.steps import AppInput, app_input
from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import UnsupportedError
from edgepack.core.files import write_atomic
from edgepack.signing.keys import PublicKey

ONNXRUNTIME = "1.24.2"  # of onnxruntime-swift-package-manager
_HERE = Path(__file__).parent
_NATIVE = _HERE.parent / "native"
_PREFIX = "epp_"  # of every name in the C sources; each package has its own, so that an app can link several


@dataclass(frozen=True, slots=True, kw_only=True)
class IosKit:
    """Package.swift, the C target of the steps, the Swift target with the model as its resource, and XCTests of the golden samples."""

    formats: tuple[str, ...] = ("onnx",)

    def write(self, bundle: Bundle, variant: Variant, folder: Path, *, trusted_keys: Sequence[PublicKey] = ()) -> None:
        """See AppKit.write. Raises UnsupportedError for tensors that ONNX Runtime's Swift package has no type for."""
        _check(bundle, variant)
        values = _values(bundle, variant, trusted_keys)
        module = values["module"]
        render(_HERE / "templates", folder, values, places={"MODULE": module})
        _write_steps(folder / "Sources" / f"C{module}Steps", values["c"])
        assets = PurePosixPath("Sources") / module / "Assets"
        names = [variant.model.path, *(("manifest.json", "signatures.json") if trusted_keys else ())]
        copy_entries(bundle, {name: assets / PurePosixPath(name).name for name in names}, folder)
        _write_golden(bundle, variant, folder / "Tests" / f"{module}Tests" / "Golden")


def _check(bundle: Bundle, variant: Variant) -> None:
    where = f"{bundle.path}: {variant.target}"
    if variant.model.companions:
        raise UnsupportedError(f"{where}: the app kit 'ios' takes models of one file only")
    for tensor in (variant.inputs[0], variant.outputs[0]):
        if tensor.dtype not in ELEMENT_TYPES:
            raise UnsupportedError(
                f"{where}: '{tensor.name}' is {tensor.dtype}; ONNX Runtime's Swift package has {', '.join(ELEMENT_TYPES)}"
            )


def _write_steps(folder: Path, prefix: str) -> None:
    """The portable C with its headers in `include`, where Swift's package manager looks for them."""
    for source in sorted(_NATIVE.glob("edgepack_*.[ch]")):
        if "sha256" in source.name:  # CryptoKit does that here
            continue
        text = source.read_text(encoding="utf-8").replace(_PREFIX, f"{prefix}_")
        write_atomic(folder / ("include" if source.suffix == ".h" else "") / source.name, text.encode())


def _write_golden(bundle: Bundle, variant: Variant, folder: Path) -> None:
    golden = variant.golden
    if golden is None:
        write_atomic(folder / "README", b"The bundle has no golden samples.\n")
        return
    for name, place in ((golden.inputs[0], "input.npy"), (golden.outputs[0], "output.npy")):
        write_atomic(folder / place, bundle.read(name))
    if (raw := raw_npy(bundle, variant)) is not None:
        write_atomic(folder / "raw.npy", raw)


def _values(bundle: Bundle, variant: Variant, trusted_keys: Sequence[PublicKey]) -> dict[str, Any]:
    """What the templates name."""
    manifest, names = bundle.manifest, names_of(bundle.manifest.name)
    return {
        "swift": swift_text,
        "manifest": manifest,
        "variant": variant,
        "title": f"{manifest.name} {manifest.version}",
        "module": names.type,
        "c": f"{names.module}_epp",
        "model_file": PurePosixPath(variant.model.path).name,
        "manifest_sha256": sha256_bytes(bundle.read("manifest.json")),
        "keys": [
            {"algorithm": key.algorithm, "key_id": key.key_id, "public_key": base64.b64encode(key.der).decode()}
            for key in trusted_keys
        ],
        "onnxruntime": ONNXRUNTIME,
        **_steps(bundle, variant),
    }


def _steps(bundle: Bundle, variant: Variant) -> dict[str, Any]:
    """From the raw sample to the answer, and the samples that prove it."""
    taken, given = app_input(bundle, variant), app_output(bundle, variant)
    calls = pipeline(taken)
    return {
        "is_image": taken.takes == "image",
        "channels": list(taken.channels),
        "raw_shape": list(taken.raw_shape),
        "raw_length": prod(taken.raw_shape),
        "pipeline": calls,
        "uses_filters": any("EPP_" in call for call in calls),
        "input_bytes": input_bytes(taken.tensor),
        "input_type": ELEMENT_TYPES[taken.tensor.dtype],
        "input_shape": list(taken.tensor.shape),
        "output_bytes": given.size_bytes,
        "output_swift": SWIFT_TYPES[given.tensor.dtype],
        "answer_calls": answer_calls(given),
        "top_k": given.top_k,
        "golden": _golden(bundle, variant, taken),
    }


def _golden(bundle: Bundle, variant: Variant, taken: AppInput) -> dict[str, Any] | None:
    golden = variant.golden
    if golden is None:
        return None
    shape = list(taken.raw_shape)
    if taken.takes == "image":
        height, width, channels = (*shape, 1)[:3]
        reader = f"try Sample.image([UInt8](bytes), height: {height}, width: {width}, channels: {channels})"
    else:
        reader = f"Sample.reals(numbers(bytes, as: Float.self), shape: [{', '.join(map(str, shape))}])"
    return {
        "samples": golden.samples,
        "tolerance_steps": golden.tolerance_steps,
        "output_step": golden_step(bundle, variant),
        "raw_samples": golden.raw_samples or 0,
        "raw_bytes": prod(shape) * (1 if taken.takes == "image" else 4),
        "raw_reader": None if golden.raw is None else reader,
    }


IOS = IosKit()
