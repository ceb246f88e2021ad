"""An Android library module named after the bundle: `TinyModel.load(context).predict(bitmap)`, in Java that Kotlin reads well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.appkit.android.code import answer_calls, output_code, pipeline
from edgepack.appkit.answers import app_output, input_bytes
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
from edgepack.signing.signatures import checked_signatures

LITERT = "2.3.0"  # com.google.ai.edge.litert:litert
LABELS_MAX = 4000  # as a constant in a class, whose initializer may have 64 KiB of bytecode
_HERE = Path(__file__).parent
_ASSETS = PurePosixPath("src/main/assets")
_TEST_ASSETS = PurePosixPath("src/androidTest/assets")


@dataclass(frozen=True, slots=True, kw_only=True)
class AndroidKit:
    """One library module with the model among its assets."""

    formats: tuple[str, ...] = ("tflite",)

    def write(self, bundle: Bundle, variant: Variant, folder: Path, *, trusted_keys: Sequence[PublicKey] = ()) -> None:
        """See AppKit.write. Raises UnsupportedError for more labels than a Java class can hold."""
        values = _values(bundle, variant, trusted_keys)
        _write_library(bundle, variant, folder, values)
        _write_assets(bundle, variant, folder / _ASSETS, values)
        render(_HERE / "readme", folder, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class AndroidAiPackKit:
    """The same library without the model, and an AI pack that Google Play delivers it in.

    Names and folders: https://developer.android.com/google/play/on-device-ai
    """

    formats: tuple[str, ...] = ("tflite",)

    def write(self, bundle: Bundle, variant: Variant, folder: Path, *, trusted_keys: Sequence[PublicKey] = ()) -> None:
        """See AppKit.write. Raises UnsupportedError as AndroidKit does."""
        values = {**_values(bundle, variant, trusted_keys), "pack": f"{names_of(bundle.manifest.name).module}_pack"}
        _write_library(bundle, variant, folder / str(values["module"]), values)
        _write_assets(bundle, variant, folder / str(values["pack"]) / _ASSETS, values)
        render(_HERE / "ai_pack", folder, values, places={"PACKNAME": str(values["pack"])})


def _write_library(bundle: Bundle, variant: Variant, folder: Path, values: dict[str, Any]) -> None:
    places = {"PACKAGE": values["java_package"].replace(".", "/"), "MODELCLASS": values["model_class"]}
    render(_HERE / "templates", folder, values, places=places)
    golden = variant.golden
    if golden is None:
        return
    places_of = {golden.inputs[0]: "input.npy", golden.outputs[0]: "output.npy"}
    copy_entries(bundle, {name: _TEST_ASSETS / "golden" / place for name, place in places_of.items()}, folder)
    if (raw := raw_npy(bundle, variant)) is not None:
        write_atomic(folder / _TEST_ASSETS / "golden" / "raw.npy", raw)


def _write_assets(bundle: Bundle, variant: Variant, folder: Path, values: dict[str, Any]) -> None:
    """The files that the library loads, in a folder of the model's own name."""
    place = PurePosixPath(values["asset_folder"])
    entries = {variant.model.path: place / values["model_file"]}
    if values["signature"] is not None:
        entries["manifest.json"] = place / "manifest.json"
    copy_entries(bundle, entries, folder)


def _values(bundle: Bundle, variant: Variant, trusted_keys: Sequence[PublicKey]) -> dict[str, Any]:
    """What the templates name."""
    manifest, names = bundle.manifest, names_of(bundle.manifest.name)
    labels = list(manifest.labels or ())
    if len(labels) > LABELS_MAX:
        raise UnsupportedError(
            f"{bundle.path}: {len(labels)} labels don't fit into a Java class (at most {LABELS_MAX}); "
            "leave them out of the recipe and read them from a file of the app"
        )
    return {
        "manifest": manifest,
        "variant": variant,
        "title": f"{manifest.name} {manifest.version}",
        "name": manifest.name,
        "version": manifest.version,
        "labels": labels,
        "module": names.module,
        "java_package": f"edgepack.{names.module}",
        "model_class": names.type if names.type.endswith("Model") else f"{names.type}Model",
        "asset_folder": names.module,
        "model_file": PurePosixPath(variant.model.path).name,
        "model_sha256": variant.model.sha256,
        "manifest_sha256": sha256_bytes(bundle.read("manifest.json")),
        "signature": _signature(bundle, trusted_keys),
        "litert": LITERT,
        **_steps(bundle, variant),
    }


def _steps(bundle: Bundle, variant: Variant) -> dict[str, Any]:
    """From the raw sample to the answer, and the samples that prove it."""
    taken, given = app_input(bundle, variant), app_output(bundle, variant)
    grid = given.tensor.quantization
    return {
        "is_image": taken.takes == "image",
        "channels": list(taken.channels),
        "raw_shape": list(taken.raw_shape),
        "raw_length": prod(taken.raw_shape),
        "pipeline": pipeline(taken),
        "input_bytes": input_bytes(taken.tensor),
        "output_bytes": given.size_bytes,
        "output_length": given.length,
        "output_scale": None if grid is None else repr(grid.scale[0]),
        "output_zero_point": 0 if grid is None else grid.zero_point[0],
        "output_code": output_code(given.tensor.dtype),
        "dequantizes": "dequantize" in given.score_steps,
        "answer_calls": answer_calls(given),
        "top_k": given.top_k,
        "golden": _golden(bundle, variant, taken),
    }


def _signature(bundle: Bundle, trusted_keys: Sequence[PublicKey]) -> dict[str, str] | None:
    """The first signature by a trusted key, which the app checks again at load; bytes as hex digits."""
    if not trusted_keys:
        return None
    data = bundle.signatures_bytes
    assert data is not None, "make_appkit has checked it"
    for one in checked_signatures(data, bundle.read("manifest.json")):
        if one.key in trusted_keys:
            return {
                "algorithm": one.key.algorithm,
                "key_id": one.key.key_id,
                "public_key": one.key.der.hex(),
                "signature": one.signature.hex(),
            }
    raise AssertionError("make_appkit has checked that a trusted key signed it")


def _golden(bundle: Bundle, variant: Variant, taken: AppInput) -> dict[str, Any] | None:
    golden = variant.golden
    if golden is None:
        return None
    shape = list(taken.raw_shape)
    if taken.takes == "image":
        height, width, channels = (*shape, 1)[:3]
        reader = f"Preprocess.image(bytes(sample), {height}, {width}, {channels})"
    else:
        reader = f"Preprocess.reals(floats(sample), {', '.join(map(str, shape))})"
    return {
        "samples": golden.samples,
        "tolerance_steps": golden.tolerance_steps,
        "output_step": golden_step(bundle, variant),
        "raw_samples": golden.raw_samples or 0,
        "raw_bytes": prod(shape) * (1 if taken.takes == "image" else 4),
        "raw_reader": None if golden.raw is None else reader,
    }


ANDROID = AndroidKit()
ANDROID_AI_PACK = AndroidAiPackKit()
