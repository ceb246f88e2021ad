"""A CMake project with a C++17 class named after the bundle, on the C API of LiteRT, ONNX Runtime or OpenVINO."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edgepack.appkit.cpp.steps import cpp_steps, heights_widths_channels
from edgepack.appkit.names import Names, names_of
from edgepack.appkit.rendering import copy_entries, golden_files, pinned_files, render
from edgepack.appkit.steps import AppInput, app_input, check_tensor
from edgepack.bundle import Bundle
from edgepack.bundle.golden import read_raw, to_npy
from edgepack.bundle.manifest import Variant
from edgepack.bundle.parts import Tensor
from edgepack.codec.compiling import SOURCES as WIRE_DECODER
from edgepack.core.errors import UnsupportedError
from edgepack.core.files import write_atomic
from edgepack.signing.keys import PublicKey

_HERE = Path(__file__).parent
_NATIVE = _HERE.parent / "native"
_TYPES = {"int8": ("std::int8_t", "i8"), "uint8": ("std::uint8_t", "u8"), "int16": ("std::int16_t", "i16")}
_LIBRARIES = {
    "tflite": ("LiteRT", "ai-edge-litert"),
    "onnx": ("ONNX Runtime", "onnxruntime"),
    "openvino": ("OpenVINO", "openvino"),
}
_ENCODER = ("epk_encode.c",)
_STEP_OPS = ("dequantize", "softmax", "sigmoid", "top_k")


@dataclass(frozen=True, slots=True, kw_only=True)
class CppKit:
    """CMakeLists.txt, the class, the steps in C, the model, an example program and a golden test for ctest."""

    formats: tuple[str, ...] = ("tflite", "onnx", "openvino")

    def write(self, bundle: Bundle, variant: Variant, folder: Path, *, trusted_keys: Sequence[PublicKey] = ()) -> None:
        """See AppKit.write. Raises UnsupportedError for an output without float32 values or codes on one grid."""
        names, taken = names_of(bundle.manifest.name), app_input(bundle, variant)
        for tensor in variant.outputs:
            check_tensor(f"{bundle.path}: {variant.target}", tensor)
        for step in bundle.manifest.postprocess:
            if step["op"] not in _STEP_OPS:
                raise UnsupportedError(f"{bundle.path}: postprocess has '{step['op']}', which this kit has no code for")
        copies = {name: PurePosixPath("model") / PurePosixPath(name).name for name in pinned_files(bundle, variant)}
        copies |= {name: PurePosixPath("tests/golden") / PurePosixPath(name).name for name in golden_files(variant)}
        copies |= {name: PurePosixPath(name) for name in ("LICENSE",) if name in bundle.names}
        copy_entries(bundle, copies, folder)
        if taken.takes == "values":
            _raw_as_float32(bundle, variant, folder / "tests" / "golden")
        for source in sorted(_NATIVE.glob("edgepack_*.[ch]")):
            write_atomic(folder / "steps" / source.name, source.read_bytes())
        for source in (*WIRE_DECODER.glob("*.h"), *WIRE_DECODER.glob("*.c")):
            if source.name not in _ENCODER:
                write_atomic(folder / "wire" / source.name, source.read_bytes())
        values = _values(bundle, variant, names, taken, trusted_keys)
        for templates in (_HERE / "templates", _HERE / "runtimes" / variant.model.format):
            render(templates, folder, values, places={"MODULE": names.module})


def _raw_as_float32(bundle: Bundle, variant: Variant, folder: Path) -> None:
    """Raw samples that are no images, in the type that the class takes: the first step makes float32 of them, too."""
    if variant.golden is None or variant.golden.raw is None:
        return
    raw = read_raw(bundle, variant)
    assert raw is not None
    write_atomic(folder / PurePosixPath(variant.golden.raw).name, to_npy(raw.astype(np.float32)))


def _values(
    bundle: Bundle, variant: Variant, names: Names, taken: AppInput, trusted_keys: Sequence[PublicKey]
) -> dict[str, Any]:
    manifest, model, output = bundle.manifest, variant.model, variant.outputs[0]
    library, distribution = _LIBRARIES[model.format]
    pins = {
        name: {"name": PurePosixPath(name).name, "entry": name, "sha256": sha256}
        for name, (sha256, _) in pinned_files(bundle, variant).items()
    }
    steps = cpp_steps(taken)
    input_type, input_short = _types(taken.tensor)
    output_type, output_short = _types(output)
    answer = [dict(step) for step in manifest.postprocess]
    return {
        "names": names,
        "manifest": manifest,
        "variant": variant,
        "taken": taken,
        "library": library,
        "cmake_version": ".".join(re.findall(r"\d+", manifest.version)[:4]) or "0",
        "verified_with": manifest.created_with.get(distribution, ""),
        "model_files": [pins[file.path] for file in model.files],
        "labels_file": pins.get("labels.txt"),
        "steps": steps,
        "ops": {step["op"] for step in steps},
        "can_fail": taken.tensor.quantization is not None or bool({"center_crop", "resize"} & {s["op"] for s in steps}),
        "hwc": heights_widths_channels(taken),
        "raw_count": prod(taken.raw_shape),
        "input_count": prod(taken.tensor.shape),
        "input_grid": taken.tensor.quantization,
        "input_type": input_type,
        "input_short": input_short,
        "output_grid": output.quantization,
        "output_type": output_type,
        "output_short": output_short,
        "output_row": output.shape[-1] if len(output.shape) > 1 else 1,
        "output_types": [_types(tensor)[0] for tensor in variant.outputs],
        "score_steps": [step for step in answer if step["op"] not in ("top_k", "dequantize")],
        "top_k": next((step for step in answer if step["op"] == "top_k"), None),
        "keys": [key.key_id for key in trusted_keys],
        "golden": variant.golden,
    }


def _types(tensor: Tensor) -> tuple[str, str]:
    """The C++ type of a tensor's elements, and how the C steps abbreviate it."""
    return ("float", "f32") if tensor.quantization is None else _TYPES[tensor.dtype]


CPP = CppKit()
