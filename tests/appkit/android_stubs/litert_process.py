"""LiteRT behind the stub of its Java class: the model comes first on standard input, then inputs; outputs go to standard output."""

from __future__ import annotations

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def message() -> bytes:
    size = sys.stdin.buffer.read(4)
    return sys.stdin.buffer.read(int.from_bytes(size, "big"))


interpreter = Interpreter(model_content=message(), num_threads=1)
interpreter.allocate_tensors()
(taken,), (given,) = interpreter.get_input_details()[:1], interpreter.get_output_details()[:1]
while data := message():
    interpreter.set_tensor(taken["index"], np.frombuffer(data, taken["dtype"]).reshape(taken["shape"]))
    interpreter.invoke()
    answer = interpreter.get_tensor(given["index"]).tobytes()
    sys.stdout.buffer.write(len(answer).to_bytes(4, "big") + answer)
    sys.stdout.buffer.flush()
