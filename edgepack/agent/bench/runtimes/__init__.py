"""The runtimes that the agent can measure, by the name that a target gives them; each in a file that imports its library late.

Each class has `OPTIONS` with their defaults, `python` (another interpreter that has the runtime where this one lacks it), `find` (the
module and its package's name), `accelerators` and `open`, which makes a model: `execution`, `signature`, `set`, `invoke`, `get`. With the spec's
`profile` it also has `begin_profile`, `after_each` (called between inferences, or None) and `profile`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

RUNTIMES = {
    "litert": "litert:LiteRt",
    "tflite_runtime": "litert:TfliteRuntime",
    "onnxruntime": "onnx:OnnxRuntime",
    "openvino": "openvino:OpenVino",
}


def runtime_class(name: str) -> Any:
    """The class of a runtime of the table."""
    module, _, attribute = RUNTIMES[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)
