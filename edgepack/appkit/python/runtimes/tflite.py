"""The model in LiteRT (TensorFlow Lite's interpreter) on the CPU."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray


class Runtime:
    """One interpreter; threads take turns."""

    def __init__(self, files: list[bytes], *, threads: int) -> None:
        self._interpreter = Interpreter(model_content=files[0], num_threads=threads)
        self._interpreter.allocate_tensors()
        self._inputs = [detail["index"] for detail in self._interpreter.get_input_details()]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]
        self._turn = threading.Lock()

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs for one sample, in the order of the model file; arrays with a first dimension of 1."""
        with self._turn:
            for index, array in zip(self._inputs, inputs, strict=True):
                self._interpreter.set_tensor(index, np.ascontiguousarray(array))
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index) for index in self._outputs]
