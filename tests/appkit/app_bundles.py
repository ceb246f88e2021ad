"""Bundles with real models of one dense layer, one for each format, for the tests of app kits: made in a moment, without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.agent import postprocess as reference_postprocess
from edgepack.agent import preprocess as reference_preprocess
from edgepack.bundle import write_bundle
from edgepack.bundle.golden import to_npy
from edgepack.bundle.manifest import Manifest
from edgepack.core.digest import sha256_bytes, sha256_file
from edgepack.core.types import QuantParams
from edgepack.runtimes import RUNTIMES
from edgepack.runtimes.grid import quantize

SIDE, CLASSES, SAMPLES = 6, 4, 3
LABELS = ["crane", "stork", "gray heron", "Kranich é"]
STEPS: list[dict[str, Any]] = [
    {"op": "center_crop", "fraction": 0.9},
    {"op": "resize", "size": SIDE, "filter": "bicubic"},
    {"op": "grayscale"},
    {"op": "to_float", "divide": 255.0},
    {"op": "normalize", "mean": [0.5], "std": [0.25]},
    {"op": "layout", "to": "CHW"},
]
ANSWER: list[dict[str, Any]] = [{"op": "dequantize"}, {"op": "softmax"}, {"op": "top_k", "k": 3, "threshold": 0.0}]
INPUT_GRID = {"scale": [0.015625], "zero_point": [-3], "axis": None}
OUTPUT_GRID = {"scale": [0.125], "zero_point": [5], "axis": None}
WEIGHT_SCALE = 0.0078125


def weights() -> Any:
    """int8 weights (classes, pixels) in units of WEIGHT_SCALE."""
    return np.random.default_rng(11).integers(-100, 100, (CLASSES, SIDE * SIDE)).astype(np.int8)


def raw_images() -> Any:
    return np.random.default_rng(12).integers(0, 256, (SAMPLES, 9, 11, 3)).astype(np.uint8)


def tflite_model(path: Path) -> None:
    """An int8 fully connected layer on (1, 6, 6, 1)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, shape: list[int], buffer: int, scale: float, zero_point: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), shape, schema.TensorType.INT8, buffer
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [scale], [zero_point]
        return made

    model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 4
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, -1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph.tensors = [
        tensor("image", [1, SIDE, SIDE, 1], 0, INPUT_GRID["scale"][0], INPUT_GRID["zero_point"][0]),
        tensor("weights", [CLASSES, SIDE * SIDE], 1, WEIGHT_SCALE, 0),
        tensor("scores", [1, CLASSES], 0, OUTPUT_GRID["scale"][0], OUTPUT_GRID["zero_point"][0]),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    empty, data = schema.BufferT(), schema.BufferT()
    data.data = np.frombuffer(weights().tobytes(), np.uint8)
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [empty, data]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def onnx_model(path: Path) -> None:
    """The same layer on (1, 1, 6, 6) in float between codes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    grids = {"in": INPUT_GRID, "out": OUTPUT_GRID}
    constants = [numpy_helper.from_array(weights().astype(np.float32) * np.float32(WEIGHT_SCALE), "weights")]
    for name, grid in grids.items():
        constants.append(numpy_helper.from_array(np.float32(grid["scale"][0]), f"{name}_scale"))
        constants.append(numpy_helper.from_array(np.int8(grid["zero_point"][0]), f"{name}_zero"))
    nodes = [
        helper.make_node("DequantizeLinear", ["image", "in_scale", "in_zero"], ["real"]),
        helper.make_node("Flatten", ["real"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["sums"], transB=1),
        helper.make_node("QuantizeLinear", ["sums", "out_scale", "out_zero"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.INT8, [1, 1, SIDE, SIDE])
    scores = helper.make_tensor_value_info("scores", TensorProto.INT8, [1, CLASSES])
    graph = helper.make_graph(nodes, "layer", [image], [scores], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(made.SerializeToString())
    onnx.checker.check_model(made)


def openvino_model(path: Path) -> None:
    """The same layer on (1, 1, 6, 6), all in float."""
    import openvino
    from openvino import opset15 as ops

    image = ops.parameter([1, 1, SIDE, SIDE], np.float32, name="image")
    flat = ops.reshape(image, np.array([1, SIDE * SIDE]), special_zero=False)
    matrix = weights().astype(np.float32) * np.float32(WEIGHT_SCALE)
    scores = ops.matmul(flat, ops.constant(matrix), transpose_a=False, transpose_b=True)
    scores.output(0).set_names({"scores"})
    openvino.save_model(openvino.Model([scores], [image], "layer"), path, compress_to_fp16=False)


MAKERS: dict[str, tuple[str, str, str, Callable[[Path], None]]] = {
    "tflite": ("model.tflite", "litert", "arm64", tflite_model),
    "onnx": ("model.onnx", "onnxruntime", "x86_64", onnx_model),
    "openvino": ("model.xml", "openvino", "intel", openvino_model),
}


def app_bundle(folder: Path, format_name: str, **changes: Any) -> Path:
    """A bundle around such a model, its golden outputs given by edgepack's own runtime; keywords replace keys of the manifest."""
    file_name, runtime, target, make = MAKERS[format_name]
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / file_name
    make(model)
    quantized, last = format_name != "openvino", format_name == "tflite"
    raw = raw_images()
    values = reference_preprocess.preprocess(raw, STEPS)
    values = values.transpose(0, 2, 3, 1) if last else values
    grid = QuantParams(scale=(INPUT_GRID["scale"][0],), zero_point=(INPUT_GRID["zero_point"][0],))
    inputs = np.ascontiguousarray(quantize(values, grid) if quantized else values)
    session = RUNTIMES.load(runtime)().open(model)  # type: ignore[call-arg]
    outputs = session.run({session.inputs[0].name: inputs})[session.outputs[0].name]
    files: dict[str, bytes | Path] = {
        f"model/{path.name}": path for path in sorted(folder.iterdir()) if path.name.startswith("model.")
    }
    files |= {
        "golden/input_0.npy": to_npy(inputs),
        "golden/output_0.npy": to_npy(outputs),
        "golden/raw.npy": to_npy(raw),
        "labels.txt": ("\n".join(LABELS) + "\n").encode(),
        "preprocess.py": Path(reference_preprocess.__file__),
        "postprocess.py": Path(reference_postprocess.__file__),
    }
    dtype = "int8" if quantized else "float32"
    companions = [path for path in sorted(folder.iterdir()) if path.name == "model.bin"]
    variant = {
        "target": target,
        "model": {
            "path": f"model/{file_name}",
            "format": format_name,
            "runtime": runtime,
            "sha256": sha256_file(model),
            "size_bytes": model.stat().st_size,
            "companions": [
                {
                    "path": f"model/{path.name}",
                    "sha256": sha256_bytes(path.read_bytes()),
                    "size_bytes": path.stat().st_size,
                }
                for path in companions
            ],
            "precision": "int8" if quantized else "float32",
        },
        "inputs": [
            {
                "name": "image",
                "shape": [1, SIDE, SIDE, 1] if last else [1, 1, SIDE, SIDE],
                "dtype": dtype,
                "layout": "NHWC" if last else "NCHW",
                "quantization": INPUT_GRID if quantized else None,
            }
        ],
        "outputs": [
            {
                "name": "scores",
                "shape": [1, CLASSES],
                "dtype": dtype,
                "quantization": OUTPUT_GRID if quantized else None,
            }
        ],
        "checks_passed": True,
        "golden": {
            "inputs": ["golden/input_0.npy"],
            "outputs": ["golden/output_0.npy"],
            "samples": SAMPLES,
            "tolerance_steps": 1.0,
            "raw": "golden/raw.npy",
            "raw_samples": SAMPLES,
        },
    }
    manifest = {
        "name": "wading-birds",
        "version": "1.2.0",
        "description": "Tells wading birds apart.",
        "license": "Apache-2.0",
        "labels": LABELS,
        "preprocess": STEPS,
        "postprocess": ANSWER,
        "variants": [variant],
        **changes,
    }
    return write_bundle(folder / "birds.edgepack", manifest=Manifest.model_validate(manifest), files=files)
