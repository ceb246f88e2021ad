"""Operators on values that are known while a network is traced: shapes and their arithmetic never reach the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from edgepack.core.types import Array
from edgepack.network.from_onnx.calls import Call


def compute(call: Call) -> Array | None:
    """The result where all inputs are known; None where it belongs into the network."""
    arrays = [value for value in call.values if value is not None]
    if not arrays or not all(isinstance(value, np.ndarray) for value in arrays):
        return None
    function = _KNOWN.get(call.node.kind)
    if function is None:
        return None if any(array.dtype == object for array in arrays) else _by_definition(call)
    result = function(call, *arrays)
    return None if result is None else _tidy(np.asarray(result))


def _by_definition(call: Call) -> Array | None:
    """Any other operator on plain integers, as onnx itself defines it."""
    from onnx.reference import ReferenceEvaluator

    node = call.node
    if len(node.outputs) != 1:
        return None
    attributes = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
    }
    proto = onnx.helper.make_node(node.kind, node.inputs, node.outputs, **attributes)
    given: dict[str, Any] = {
        name: np.asarray(value) for name, value in zip(node.inputs, call.values, strict=True) if value is not None
    }
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), None)
        for name, value in given.items()
    ]
    (output,) = node.outputs
    graph = onnx.helper.make_graph([proto], "constant", inputs, [onnx.helper.make_empty_tensor_value_info(output)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", call.opset)])
    results: Any = ReferenceEvaluator(model).run(None, given)
    result = results[0]
    return None if result.dtype.kind == "f" else np.asarray(result)


def _tidy(array: Array) -> Array:
    """Plain integers where nothing symbolic is left."""
    if array.dtype == object and all(isinstance(item, (int, np.integer)) for item in array.reshape(-1)):
        return array.astype(np.int64)
    return array


def _divided(_: Call, left: Array, right: Array) -> Any:
    return left / right if "f" in (left.dtype.kind, right.dtype.kind) else left // right


def _cast(call: Call, array: Array) -> Any:
    wanted = onnx.helper.tensor_dtype_to_np_dtype(call.attribute("to"))
    return array if array.dtype == object else array.astype(wanted)


def _gather(call: Call, array: Array, indices: Array) -> Any:
    return np.take(array, indices.astype(np.int64), axis=call.attribute("axis", 0))


def _concat(call: Call, *arrays: Array) -> Any:
    return np.concatenate(arrays, axis=call.attribute("axis", 0))


def _slice(call: Call, array: Array, *bounds: Array) -> Any:
    if call.opset < 10:
        starts, ends = call.attribute("starts"), call.attribute("ends")
        axes, steps = call.attribute("axes", list(range(len(starts)))), [1] * len(starts)
    else:
        starts, ends = call.numbers(1, "starts"), call.numbers(2, "ends")
        axes = call.numbers(3, "axes") if call.has(3) else list(range(len(starts)))
        steps = call.numbers(4, "steps") if call.has(4) else [1] * len(starts)
    index: list[Any] = [slice(None)] * array.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, end, step)
    return array[tuple(index)]


def _squeeze(call: Call, array: Array, *_: Array) -> Any:
    axes = call.listed("axes", 1)
    return np.squeeze(array, None if axes is None else tuple(axes))


def _unsqueeze(call: Call, array: Array, *_: Array) -> Any:
    return np.expand_dims(array, tuple(call.listed("axes", 1) or ()))


def _reshape(call: Call, array: Array, shape: Array) -> Any:
    return array.reshape(tuple(int(size) for size in shape))


def _constant_of_shape(call: Call, shape: Array) -> Any:
    value = call.attribute("value", np.zeros(1, np.float32)).reshape(-1)[0]
    if shape.dtype == object or value.dtype.kind == "f":
        return None
    return np.full(tuple(int(size) for size in shape), value)


def _product(call: Call, array: Array, *_: Array) -> Any:
    axes = call.listed("axes", 1)
    return np.prod(array, axis=None if axes is None else tuple(axes), keepdims=bool(call.attribute("keepdims", 1)))


def _transpose(call: Call, array: Array) -> Any:
    return array.transpose(call.attribute("perm", list(reversed(range(array.ndim)))))


def _where(_: Call, condition: Array, left: Array, right: Array) -> Any:
    return np.where(condition.astype(bool), left, right)


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda call, *arrays: function(*arrays)


_KNOWN: dict[str, Callable[..., Any]] = {
    "Add": _elementwise(np.add), "Cast": _cast, "Ceil": _elementwise(np.ceil), "Concat": _concat, "ConstantOfShape": _constant_of_shape,
    "Div": _divided, "Equal": _elementwise(np.equal), "Floor": _elementwise(np.floor), "Gather": _gather,
    "Greater": _elementwise(np.greater), "Identity": _elementwise(lambda array: array), "Less": _elementwise(np.less),
    "Max": _elementwise(np.maximum), "Min": _elementwise(np.minimum), "Mul": _elementwise(np.multiply), "Neg": _elementwise(np.negative),
    "Range": _elementwise(np.arange), "ReduceProd": _product, "Reshape": _reshape, "Slice": _slice, "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract), "Transpose": _transpose, "Unsqueeze": _unsqueeze, "Where": _where,
}  # fmt: skip
