"""Runs .tflite models for another process: `python tflite_worker.py`, questions on stdin, answers on stdout, until stdin ends.

It needs only the standard library, NumPy and tflite_runtime, and Python 3.9 to 3.11: tflite-runtime 2.14 is built against NumPy 1 and has no newer
Python, so edgepack can't import it and asks this instead. A message is a JSON object, `"arrays": n` in it, then n .npy files; each part is
preceded by its length as 8 bytes, most significant first.

| question | answer |
|---|---|
| `{"do": "version"}` | `{"version": "2.14.0"}` |
| `{"do": "open", "model": path, "threads": 1, "keep_tensors": false}` | `{"facts": {…}}`, see `facts` |
| `{"do": "run"}`, one array (N, …) for each input | one array (N, …) for each output |
| `{"do": "tensor", "index": 3}` | that tensor as it is after the last run |

Whatever fails is answered with `{"error": {"kind": …, "message": …}}`; kinds: runtime (can't be imported), model (no whole .tflite file), unsupported
(an operator, or a version of one, that this runtime lacks), inference.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from typing import Any, BinaryIO

LENGTH = struct.Struct(">Q")
MAIN_SIGNATURE = "serving_default"


class WorkerError(Exception):
    """A failure that the asker is told: WorkerError(kind, message)."""


class Worker:
    """At most one open model."""

    def __init__(self) -> None:
        self._interpreter: Any = None

    def answer(self, question: dict[str, Any], arrays: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        """The answer's object and its arrays. Raises WorkerError."""
        if question["do"] == "version":
            return {"version": version()}, []
        if question["do"] == "open":
            self._interpreter = open_model(question["model"], question["threads"], question["keep_tensors"])
            return {"facts": facts(self._interpreter)}, []
        if question["do"] == "run":
            return {}, self._run(arrays)
        return {}, [self._interpreter.get_tensor(question["index"])]

    def _run(self, arrays: list[Any]) -> list[Any]:
        import numpy as np

        interpreter = self._interpreter
        inputs, details = interpreter.get_input_details(), interpreter.get_output_details()
        samples = len(arrays[0])
        outputs = [np.empty((samples, *map(int, one["shape"][1:])), one["dtype"]) for one in details]
        for sample in range(samples):
            for detail, array in zip(inputs, arrays):  # noqa: B905 - zip(strict=) needs Python 3.10
                interpreter.set_tensor(detail["index"], array[sample : sample + 1])
            interpreter.invoke()
            for detail, array in zip(details, outputs):  # noqa: B905
                array[sample : sample + 1] = interpreter.get_tensor(detail["index"])
        return outputs


def main() -> int:
    """Answer until stdin ends."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the runtime prints to stdout must not end up among the answers
    worker = Worker()
    while (received := receive(questions)) is not None:
        try:
            content, arrays = worker.answer(*received)
        except WorkerError as exc:
            content, arrays = {"error": {"kind": exc.args[0], "message": exc.args[1]}}, []
        except Exception as exc:  # noqa: BLE001 - the process's border: whatever failed is told, and the next question is awaited
            content, arrays = {"error": {"kind": "inference", "message": f"{type(exc).__name__}: {exc}"}}, []
        send(answers, content, arrays)
    return 0


def receive(stream: BinaryIO) -> tuple[dict[str, Any], list[Any]] | None:
    """The next message and its arrays, or None at the end."""
    head = stream.read(LENGTH.size)
    if not head:
        return None
    content = json.loads(stream.read(LENGTH.unpack(head)[0]))
    if not content["arrays"]:
        return content, []
    import numpy as np

    parts = (stream.read(LENGTH.unpack(stream.read(LENGTH.size))[0]) for _ in range(content["arrays"]))
    return content, [np.load(io.BytesIO(part), allow_pickle=False) for part in parts]


def send(stream: BinaryIO, content: dict[str, Any], arrays: list[Any]) -> None:
    """Write a message."""
    parts = [json.dumps(dict(content, arrays=len(arrays))).encode()]
    if arrays:
        import numpy as np

        for array in arrays:
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            parts.append(buffer.getvalue())
    for part in parts:
        stream.write(LENGTH.pack(len(part)))
        stream.write(part)
    stream.flush()


def version() -> str:
    """The runtime's version. Raises WorkerError when it is not installed."""
    from importlib import metadata

    try:
        return metadata.version("tflite-runtime")
    except metadata.PackageNotFoundError as exc:
        raise WorkerError("runtime", "the package tflite-runtime is not installed") from exc


def open_model(path: str, threads: int, keep_tensors: bool) -> Any:
    """An interpreter with its tensors allocated. Raises WorkerError."""
    try:
        from tflite_runtime.interpreter import Interpreter, OpResolverType
    except ImportError as exc:
        raise WorkerError("runtime", f"tflite_runtime can't be imported: {exc}") from exc
    # A delegate runs its part of the graph as one node and hides the tensors within.
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if keep_tensors else OpResolverType.AUTO
    try:
        interpreter = Interpreter(
            model_path=path,
            num_threads=threads,
            experimental_op_resolver_type=resolver,
            experimental_preserve_all_tensors=keep_tensors,
        )
    except (ValueError, RuntimeError) as exc:
        known = "Registration failed" in str(exc) or "Didn't find op" in str(exc)
        raise WorkerError("unsupported" if known else "model", str(exc)) from exc
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as exc:
        raise WorkerError("unsupported", str(exc)) from exc
    return interpreter


def facts(interpreter: Any) -> dict[str, Any]:
    """Tensors, operators (those that a delegate replaces, without the delegate), inputs, outputs, names of the signature."""
    import numpy as np

    def indices(details: Any) -> list[int]:
        return [int(detail["index"]) for detail in details]

    input_names, output_names = signature_names(interpreter)
    return {
        "tensors": [
            {
                "index": int(detail["index"]),
                "name": str(detail["name"]),
                "shape": [int(size) for size in detail["shape"]],
                "dtype": np.dtype(detail["dtype"]).name,
                "scales": [float(scale) for scale in detail["quantization_parameters"]["scales"]],
                "zero_points": [int(zero) for zero in detail["quantization_parameters"]["zero_points"]],
                "axis": int(detail["quantization_parameters"]["quantized_dimension"]),
            }
            for detail in interpreter.get_tensor_details()
        ],
        "operators": [
            {
                "name": str(one["op_name"]),
                "inputs": [int(i) for i in one["inputs"]],
                "outputs": [int(i) for i in one["outputs"]],
            }
            for one in interpreter._get_ops_details()
            if one["op_name"] != "DELEGATE"
        ],
        "inputs": indices(interpreter.get_input_details()),
        "outputs": indices(interpreter.get_output_details()),
        "input_names": input_names,
        "output_names": output_names,
    }


def signature_names(interpreter: Any) -> tuple[list[list[Any]], list[list[Any]]]:
    """For inputs and outputs: [tensor index, name in the model's signature]; empty for a model without one."""
    keys = sorted(interpreter.get_signature_list(), key=lambda key: (key != MAIN_SIGNATURE, key))
    if not keys:
        return [], []
    runner = interpreter.get_signature_runner(keys[0])
    inputs = [[int(detail["index"]), name] for name, detail in runner.get_input_details().items()]
    outputs = [[int(detail["index"]), name] for name, detail in runner.get_output_details().items()]
    return inputs, outputs


if __name__ == "__main__":
    sys.exit(main())
