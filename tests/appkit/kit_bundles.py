"""Small bundles around real models of two runtimes, made in moments: what the app kits of web, Android and iOS are written for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from app_vectors import encoded

from edgepack.agent.postprocess import postprocess
from edgepack.agent.preprocess import preprocess
from edgepack.bundle import Bundle, read_bundle, write_bundle
from edgepack.bundle.archive import with_signatures
from edgepack.bundle.golden import read_golden, read_raw, to_npy
from edgepack.bundle.manifest import Manifest
from edgepack.core.digest import sha256_bytes
from edgepack.core.types import QuantParams
from edgepack.runtimes.grid import quantize
from edgepack.signing.keys import PrivateKey
from edgepack.signing.signatures import sign

LABELS = ["cat", "dog <b>", 'naïve "bird"', "back\\slash"]
IMAGE_STEPS = [
    {"op": "center_crop", "fraction": 0.875},
    {"op": "resize", "size": [6, 5], "filter": "bicubic"},
    {"op": "to_float", "divide": 255.0},
    {"op": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    {"op": "layout", "to": "CHW"},
]
ANSWER_STEPS = [{"op": "dequantize"}, {"op": "softmax"}, {"op": "top_k", "k": 3, "threshold": 0.01}]
_IN, _OUT = float(np.float32(0.0187069308)), float(np.float32(0.05))
_ZERO = {"tflite": (-14, 7), "onnx": (114, 135)}
_DTYPE = {"tflite": "int8", "onnx": "uint8"}
_WEIGHTS = np.random.default_rng(5).integers(-127, 128, (4, 90)).astype(np.int8)
_BIAS = np.array([900, -400, 100, 2000], np.int32)
_WEIGHT_SCALE = 0.002


def image_bundle(path: Path, *, signed_by: Sequence[PrivateKey] = (), **changes: Any) -> Bundle:
    """Both formats of one classifier of images (arm64: .tflite, NHWC; x86_64: .onnx, NCHW), with raw samples of 21 × 17 pixels.

    `changes` replace keys of the manifest.
    """
    raw = np.random.default_rng(7).integers(0, 256, (3, 21, 17, 3)).astype(np.uint8)
    real = preprocess(raw, IMAGE_STEPS)
    files: dict[str, Any] = {"golden/raw.npy": to_npy(raw), "LICENSE": b"MIT\n"}
    variants = [
        _variant(files, "arm64", "tflite", real.transpose(0, 2, 3, 1)),
        _variant(files, "x86_64", "onnx", real),
    ]
    about = {
        "name": "tiny-cats",
        "version": "1.2.0",
        "labels": LABELS,
        "description": 'Tells "cats" */ from </script>.',
    }
    steps = {"preprocess": IMAGE_STEPS, "postprocess": ANSWER_STEPS}
    manifest = Manifest.model_validate({**about, **steps, "variants": variants, **changes})
    bundle = read_bundle(write_bundle(path, manifest=manifest, files=files))
    if not signed_by:
        return bundle
    signatures = sign(bundle.read("manifest.json"), signed_by)
    return read_bundle(with_signatures(bundle, signatures, path.with_name(f"signed-{path.name}")))


def values_bundle(path: Path) -> Bundle:
    """A float model of 7 numbers in both formats, with nothing but a score for each of 3 classes."""
    raw = (np.random.default_rng(9).standard_normal((2, 7)) * 50).astype(np.float16)
    steps = [{"op": "normalize", "mean": 3.0, "std": 40.0}]
    files: dict[str, Any] = {"golden/raw.npy": to_npy(raw)}
    real = preprocess(raw, steps)
    variants = []
    for target, name, data in (("arm64", "tflite", float_tflite()), ("x86_64", "onnx", float_onnx())):
        outputs = _run(name, data, real)
        tensors = [{"name": "x", "shape": [1, 7]}, {"name": "y", "shape": [1, 3]}]
        grids = [{"dtype": "float32", "quantization": None}] * 2
        variants.append(_entries(files, target, name, data, real, outputs, tensors, grids, output_steps=[0.01]))
    about = {
        "name": "numbers",
        "version": "2",
        "preprocess": steps,
        "postprocess": [{"op": "dequantize"}, {"op": "sigmoid"}],
    }
    return read_bundle(
        write_bundle(path, manifest=Manifest.model_validate({**about, "variants": variants}), files=files)
    )


def _variant(files: dict[str, Any], target: str, name: str, real: Any) -> dict[str, Any]:
    data = int8_tflite() if name == "tflite" else uint8_onnx()
    dtype, (zero_in, zero_out) = _DTYPE[name], _ZERO[name]
    inputs = quantize(real, QuantParams(scale=(_IN,), zero_point=(zero_in,), dtype=dtype))
    layout = "NHWC" if name == "tflite" else "NCHW"
    tensors = [
        {"name": "image", "shape": [1, *inputs.shape[1:]], "layout": layout},
        {"name": "scores", "shape": [1, 4]},
    ]
    grids = [
        {"dtype": dtype, "quantization": {"scale": [scale], "zero_point": [zero], "axis": None}}
        for scale, zero in ((_IN, zero_in), (_OUT, zero_out))
    ]
    return _entries(files, target, name, data, inputs, _run(name, data, inputs), tensors, grids)


def _entries(
    files: dict[str, Any], target: str, name: str, data: bytes, inputs: Any, outputs: Any, tensors: Any, grids: Any,
    output_steps: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """A variant, whose files are added."""
    places = [f"{target}/golden/input_0.npy", f"{target}/golden/output_0.npy"]
    files |= {places[0]: to_npy(inputs), places[1]: to_npy(outputs), f"{target}/model/model.{name}": data}
    return {
        "target": target,
        "model": {
            "path": f"{target}/model/model.{name}",
            "format": name,
            "sha256": sha256_bytes(data),
            "size_bytes": len(data),
            "precision": "int8" if inputs.dtype.itemsize == 1 else "float32",
        },
        "inputs": [{**tensors[0], **grids[0]}],
        "outputs": [{**tensors[1], **grids[1]}],
        "checks_passed": True,
        "golden": {
            "inputs": places[:1],
            "outputs": places[1:],
            "samples": len(inputs),
            "tolerance_steps": 1.0,
            "raw": "golden/raw.npy",
            "raw_samples": len(inputs),
            "output_steps": output_steps,
        },
    }


def _run(name: str, data: bytes, inputs: Any) -> Any:
    """What the model says in its own runtime here, sample by sample."""
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {"x": one[None]})[0] for one in inputs])
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    outputs = []
    for one in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], one[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(outputs)


def uint8_onnx() -> bytes:
    """(1, 3, 6, 5) uint8 to (1, 4) uint8."""
    from onnx import TensorProto, helper, numpy_helper

    zero_in, zero_out = _ZERO["onnx"]
    constants = {
        "si": np.float32(_IN), "zi": np.uint8(zero_in), "so": np.float32(_OUT), "zo": np.uint8(zero_out),
        "w": (_WEIGHTS.astype(np.float32) * np.float32(_WEIGHT_SCALE)).T.copy(),
        "b": (_BIAS * _IN * _WEIGHT_SCALE).astype(np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "si", "zi"], ["real"]),
        helper.make_node("Flatten", ["real"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["scores"]),
        helper.make_node("QuantizeLinear", ["scores", "so", "zo"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 6, 5]),
        helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 4]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def float_onnx() -> bytes:
    """(1, 7) to (1, 3), float32."""
    from onnx import TensorProto, helper, numpy_helper

    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 7]), ("y", [1, 3]))
    ]
    weights = numpy_helper.from_array(_WEIGHTS[:3, :7].T.astype(np.float32) / 64, "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "numbers", values[:1], values[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def int8_tflite() -> bytes:
    """(1, 6, 5, 3) int8 to (1, 4) int8: one FULLY_CONNECTED."""
    zero_in, zero_out = _ZERO["tflite"]
    # The same network as the .onnx: its weights see the channels first.
    weights = _WEIGHTS.reshape(4, 3, 6, 5).transpose(0, 2, 3, 1).reshape(4, 90)
    tensors = [
        ("image", [1, 6, 5, 3], "INT8", None, _IN, zero_in),
        ("weights", [4, 90], "INT8", weights, _WEIGHT_SCALE, 0),
        ("bias", [4], "INT32", _BIAS, _IN * _WEIGHT_SCALE, 0),
        ("scores", [1, 4], "INT8", None, _OUT, zero_out),
    ]
    return _fully_connected(tensors)


def float_tflite() -> bytes:
    """(1, 7) to (1, 3), float32."""
    weights = _WEIGHTS[:3, :7].astype(np.float32) / 64
    tensors = [
        ("x", [1, 7], "FLOAT32", None, None, 0),
        ("weights", [3, 7], "FLOAT32", weights, None, 0),
        ("bias", [3], "FLOAT32", np.zeros(3, np.float32), None, 0),
        ("y", [1, 3], "FLOAT32", None, None, 0),
    ]
    return _fully_connected(tensors)


def _fully_connected(tensors: Sequence[tuple[str, list[int], str, Any, float | None, int]]) -> bytes:
    """A .tflite of one operator over four tensors: input, weights, bias, output."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, graph.tensors = 3, [schema.BufferT()], []
    for name, shape, kind, values, scale, zero in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), shape, getattr(schema.TensorType, kind)
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    operator, code = schema.OperatorT(), schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 4 if tensors[0][2] == "INT8" else 1
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    model.operatorCodes, model.subgraphs = [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def reference_answer(bundle: Bundle, target: str) -> tuple[Any, list[list[Any]]]:
    """The first raw sample, and [index, label, score] of its best answers by the Python reference."""
    variant = bundle.variant(target)
    raw = read_raw(bundle, variant)
    assert raw is not None
    output = variant.outputs[0]
    codes = read_golden(bundle, variant).outputs[output.name][:1]
    grid = None if output.quantization is None else output.quantization.model_dump(mode="json")
    (found,) = postprocess(codes, bundle.manifest.postprocess, quantization=grid, labels=bundle.manifest.labels)
    return raw[0], [list(answer) for answer in found]


def random_cases(count: int) -> list[dict[str, Any]]:
    """Images and steps of all kinds, with the reference's answers."""
    rng = np.random.default_rng(2024)
    cases = []
    for number in range(count):
        height, width, channels = (*map(int, rng.integers(1, 60, 2)), int(rng.choice([1, 3])))
        image = rng.integers(0, 256, (height, width, channels)).astype(np.uint8)
        name = ("nearest", "bilinear", "bicubic", "lanczos")[number % 4]
        steps: list[dict[str, Any]] = [{"op": "center_crop", "fraction": float(rng.choice([0.875, 0.5, 0.33]))}]
        size = rng.integers(1, 50, 2).tolist()
        steps.append({"op": "resize", "filter": name, "size": size})
        steps.append({"op": "normalize", "mean": 127.0, "std": 128.0})
        steps.append({"op": "layout", "to": "CHW"})
        cases.append({"input": encoded(image), "steps": steps, "output": encoded(preprocess([image], steps)[0])})
    return cases
