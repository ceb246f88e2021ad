"""Small model files of every format, made by each format's own library, with the arrays that lie in them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHTS = np.random.default_rng(1).integers(-90, 91, (24, 3, 5, 16)).astype(np.int8)  # OHWI
BIASES = np.random.default_rng(2).integers(-90_000, 90_001, 24).astype(np.int32)
SCALES = np.random.default_rng(3).uniform(0.001, 0.1, 24).astype(np.float32)
FLOATS = np.random.default_rng(4).normal(size=(7, 9)).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file, what lies beside it, and by a tensor's name its kind and its bytes."""

    name: str
    data: bytes
    tensors: Mapping[str, tuple[str, bytes]]
    beside: Mapping[str, bytes] = field(default_factory=dict)


def npy() -> ModelFile:
    file = io.BytesIO()
    np.save(file, WEIGHTS)
    return ModelFile(name="a.npy", data=file.getvalue(), tensors={"a.npy": ("i8", WEIGHTS.tobytes())})


def safetensors() -> ModelFile:
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {"w": WEIGHTS, "b": BIASES, "f": FLOATS, "h": FLOATS.astype(np.float16)}
    kinds = {"w": "i8", "b": "i32", "f": "f32", "h": "f16"}
    tensors = {name: (kinds[name], array.tobytes()) for name, array in arrays.items()}
    return ModelFile(name="m.safetensors", data=save(arrays), tensors=tensors)


def onnx() -> ModelFile:
    from onnx import TensorProto, helper, numpy_helper

    nibbles = bytes(range(60))
    initializers = [
        numpy_helper.from_array(WEIGHTS.transpose(0, 3, 1, 2).copy(), "w"),
        numpy_helper.from_array(BIASES, "b"),
        numpy_helper.from_array(SCALES, "w/scale"),
        helper.make_tensor("n", TensorProto.INT4, (8, 15), nibbles, raw=True),
    ]
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(FLOATS, "c"))
    graph = helper.make_graph([constant], "g", [], [], initializers)
    return ModelFile(
        name="m.onnx",
        data=helper.make_model(graph).SerializeToString(),
        tensors={
            "w": ("i8", WEIGHTS.transpose(0, 3, 1, 2).tobytes()),
            "b": ("i32", BIASES.tobytes()),
            "w/scale": ("f32", SCALES.tobytes()),
            "n": ("i4", nibbles),
            "c": ("f32", FLOATS.tobytes()),
        },
    )


def openvino(folder: Path) -> ModelFile:
    import openvino as ov
    from openvino import opset13 as ops

    weights = WEIGHTS.view(np.uint8) ^ np.uint8(128)
    given = ops.parameter([7, 9], np.float32, name="x")
    added = ops.add(given, ops.constant(FLOATS, name="f"))
    kept = ops.constant(weights, name="w")
    model = ov.Model([ops.result(added), ops.result(kept)], [given], "m")
    ov.save_model(model, folder / "m.xml", compress_to_fp16=False)
    return ModelFile(
        name="m.bin",
        data=(folder / "m.bin").read_bytes(),
        tensors={"f": ("f32", FLOATS.tobytes()), "w": ("u8", weights.tobytes())},
        beside={"m.xml": (folder / "m.xml").read_bytes()},
    )


def tflite(*, weights: NDArray[np.int8] = WEIGHTS, comment: bytes = b"made by a test") -> ModelFile:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version, model.description = 3, comment
    subgraph = schema.SubGraphT()
    model.buffers, subgraph.tensors, subgraph.operators = [schema.BufferT()], [], []
    subgraph.inputs, subgraph.outputs = np.array([], np.int32), np.array([], np.int32)
    factor = np.float32(0.0173)
    for name, array, code, scale in (
        ("b", BIASES, schema.TensorType.INT32, SCALES * factor),  # the builder writes from the end: it lies behind w
        ("w", weights, schema.TensorType.INT8, SCALES),
        ("f", FLOATS, schema.TensorType.FLOAT32, None),
    ):
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        tensor.name, tensor.type, tensor.shape = name.encode(), code, np.array(array.shape, np.int32)
        tensor.buffer = len(model.buffers)
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = scale, np.zeros(len(scale), np.int64)
        model.buffers.append(buffer)
        subgraph.tensors.append(tensor)
    model.subgraphs = [subgraph]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    tensors = {
        "w": ("i8", weights.tobytes()),
        "w/scale": ("f32", SCALES.tobytes()),
        "b": ("i32", BIASES.tobytes()),
        "b/scale": ("f32", (SCALES * factor).tobytes()),
        "f": ("f32", FLOATS.tobytes()),
    }
    return ModelFile(name="m.tflite", data=bytes(builder.Output()), tensors=tensors)


def every(folder: Path) -> tuple[ModelFile, ...]:
    return npy(), safetensors(), onnx(), openvino(folder), tflite()
