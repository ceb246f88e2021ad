"""From a compressed model to the file a device runs. One file an exporter, one line here."""

from __future__ import annotations

from edgepack.core.registry import Registry
from edgepack.exporters.protocol import Exporter

EXPORTERS: Registry[type[Exporter]] = Registry(
    "exporter",
    {
        "litert": "edgepack.exporters.litert:LiteRTExporter",
        "openvino": "edgepack.exporters.openvino:OpenVINOExporter",
        "onnx": "edgepack.exporters.onnx:OnnxExporter",
    },
)
# The format that each of them writes.
FORMAT_OF_EXPORTER = {"litert": "tflite", "onnx": "onnx", "openvino": "openvino"}
