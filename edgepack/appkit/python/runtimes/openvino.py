"""The model in OpenVINO on the CPU, in float32 where it is float."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray


class Runtime:
    """One compiled model and request; threads take turns."""

    def __init__(self, files: list[bytes], *, threads: int) -> None:
        core = openvino.Core()
        model = core.read_model(model=files[0], weights=openvino.Tensor(np.frombuffer(files[1], np.uint8)))
        properties = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        self._request = core.compile_model(model, "CPU", properties).create_infer_request()
        self._outputs = len(model.outputs)
        self._turn = threading.Lock()

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs for one sample, in the order of the model file; arrays with a first dimension of 1."""
        with self._turn:
            self._request.infer(dict(enumerate(inputs)), share_inputs=False, share_outputs=False)
            return [self._request.get_output_tensor(index).data.copy() for index in range(self._outputs)]
