"""Runtimes: what opens a model file on this machine and runs it, as an app on the device would."""

from edgepack.core.registry import Registry
from edgepack.runtimes.protocol import Execution, Operator, Runtime, Session

__all__ = ["RUNTIMES", "RUNTIME_OF_FORMAT", "Execution", "Operator", "Runtime", "Session"]

# Each attribute is a class without required arguments: RUNTIMES.load("litert")().open(path)
RUNTIMES: Registry[type[Runtime]] = Registry(
    "runtime",
    {
        "litert": "edgepack.runtimes.litert:LiteRT",
        "openvino": "edgepack.runtimes.openvino:OpenVINO",
        "onnxruntime": "edgepack.runtimes.onnxruntime:OnnxRuntime",
        "tflite_runtime": "edgepack.runtimes.tflite_runtime:TfliteRuntime",
    },
)

# What opens a bundle's model here, by its format, where no target says otherwise.
RUNTIME_OF_FORMAT = {"tflite": "litert", "onnx": "onnxruntime", "openvino": "openvino"}
