"""A script: reads a SavedModel with TensorFlow and writes it as ONNX with tf2onnx.

Usage: `python -m edgepack.sources.conversion.saved_model_to_onnx FOLDER` with `FOLDER/request.json`:

- `file`: the SavedModel's folder; `signature` and `tags`: what to convert of it,
- `inputs`: the shape of each input, without the batch, by name; `outputs`: the names of the outputs in order.

It leaves in FOLDER `model.onnx` (the batch is open) and `probe.npz` (inputs `input_0` … in the request's order, and what TensorFlow computes from
them, `output_0` …); or `failure.json` with `error` (name of the class) and `message`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

_OPSET = 18
_PROBES = 3
_WEIGHTED = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
_NOT_A_LAYER = re.compile(
    r"(\w*PartitionedCall|ReadVariableOp|BiasAdd|Squeeze|ExpandDims|MatMul|Conv[123]D\w*|\w*convolution|Cast|depthwise|separable_conv2d)(_\d+)*\Z"
)
_UNKNOWN_OPERATION = re.compile(r"Op type not registered '([^']+)'")


class _Failure(Exception):
    """What goes into failure.json."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


def main(folder: Path) -> int:
    """Convert; 1 after a failure that has a name."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the numbers to compare with are the CPU's
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # the same sums on every CPU
    try:
        _convert(request, folder)
    except _Failure as exc:
        (folder / "failure.json").write_text(json.dumps({"error": exc.error, "message": str(exc)}), encoding="utf-8")
        return 1
    return 0


def _convert(request: dict[str, Any], folder: Path) -> None:
    import numpy as np

    signature = _signature(request)
    names = list(request["inputs"])
    probe = _probe(signature, request["inputs"])
    try:
        wanted = signature(**probe)
    except Exception as exc:
        raise _Failure(
            "SourceError", f"{_where(request)}: TensorFlow can't run signature '{request['signature']}': {_reason(exc)}"
        ) from exc
    arrays = {f"input_{index}": probe[name].numpy() for index, name in enumerate(names)}
    arrays |= {f"output_{index}": wanted[name].numpy() for index, name in enumerate(request["outputs"])}
    np.savez(folder / "probe.npz", **arrays)
    _write_onnx(signature, request, folder / "model.onnx")


def _signature(request: dict[str, Any]) -> Any:
    try:
        import tensorflow as tf
        import tf2onnx  # noqa: F401
    except ImportError as exc:
        raise _Failure(
            "EnvironmentProblem",
            f"{_where(request)}: TensorFlow and tf2onnx can't be imported ({exc}); install them anew: pip install 'edgepack[saved-model]'",
        ) from exc
    try:
        loaded = tf.saved_model.load(request["file"], tags=request["tags"] or None)
        signature = loaded.signatures[request["signature"]]
    except Exception as exc:
        unknown = _UNKNOWN_OPERATION.search(str(exc))
        if unknown is not None:
            raise _Failure(
                "UnsupportedError",
                f"{_where(request)}: uses the operation '{unknown[1]}', which is no part of TensorFlow {tf.__version__}; make the model of TensorFlow's own operations",
            ) from exc
        raise _Failure(
            "SourceError", f"{_where(request)}: TensorFlow can't load it: {_reason(exc)}; copy or export it again"
        ) from exc
    signature.keeps_variables = loaded  # which are freed with what was loaded
    return signature


def _probe(signature: Any, shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Random inputs; the last sample is as large as the pixels of an image. Indices are 0 and 1, which any table has."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    specs = signature.structured_input_signature[1]
    found = {}
    for name, shape in shapes.items():
        values: Any
        if specs[name].dtype.is_floating:
            values = rng.normal(size=(_PROBES, *shape))
            values[-1] = rng.uniform(0, 255, size=shape)
        else:
            values = rng.integers(0, 2, (_PROBES, *shape))
        found[name] = tf.constant(values, specs[name].dtype)
    return found


def _write_onnx(signature: Any, request: dict[str, Any], path: Path) -> None:
    import tensorflow as tf
    import tf2onnx

    specs = [
        tf.TensorSpec((None, *shape), signature.structured_input_signature[1][name].dtype, name=name)
        for name, shape in request["inputs"].items()
    ]
    names = list(request["inputs"])

    def run(*values: Any) -> Any:
        outputs = signature(**dict(zip(names, values, strict=True)))
        return [outputs[name] for name in request["outputs"]]

    try:
        model, _ = tf2onnx.convert.from_function(tf.function(run), input_signature=specs, opset=_OPSET)
    except Exception as exc:
        raise _Failure("UnsupportedError", f"{_where(request)}: tf2onnx can't convert it: {_reason(exc)}") from exc
    _name_weights(model.graph)
    path.write_bytes(model.SerializeToString())


def _name_weights(graph: Any) -> None:
    """Call each weight after the layer that TensorFlow has it in: 'conv2d_1/kernel' for StatefulPartitionedCall/model_1/conv2d_1/convolution/ReadVariableOp:0."""
    constants = {tensor.name for tensor in graph.initializer}
    layers = {}
    for node in graph.node:
        weights = [name for name in node.input if name in constants] if node.op_type in _WEIGHTED else []
        scopes = [scope for name in (*weights, node.name) if (scope := _scope(name))]
        if weights:
            layers[weights[0]] = scopes[0] if scopes else [node.op_type.lower()]
    shared = _shared([scope[:-1] for scope in layers.values()])
    names: dict[str, str] = {}
    for weight, scope in layers.items():
        name, number = "/".join(scope[shared:]), 1
        while f"{name}/kernel" in names.values():
            name, number = f"{'/'.join(scope[shared:])}_{number}", number + 1
        names[weight] = f"{name}/kernel"
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _shared(paths: list[list[str]]) -> int:
    """How many first parts all paths have in common."""
    columns = list(zip(*paths, strict=False))
    return next((index for index, column in enumerate(columns) if len(set(column)) > 1), len(columns))


def _scope(name: str) -> list[str]:
    """The layer in a name of TensorFlow's, outermost part first; [] for names that tf2onnx made up."""
    parts = [part for part in name.partition(":")[0].split("/") if not _NOT_A_LAYER.match(part)]
    return parts if "/" in name else []


def _where(request: dict[str, Any]) -> str:
    return f"model.file: {Path(request['file']).name}"


def _reason(exc: BaseException) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return f"{type(exc).__name__}: {' '.join(lines[:2])[:400]}" if lines else type(exc).__name__


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except Exception:  # noqa: BLE001 - the parent shows the last lines
        traceback.print_exc()
        sys.exit(2)
