"""The values of an ONNX file: its tensors, in the file or in others beside it, and the attributes of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.core.errors import SourceError
from edgepack.core.types import Array

if TYPE_CHECKING:
    import onnx


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's values lie in another file."""
    return bool(tensor.data_location == 1)  # TensorProto.EXTERNAL


def external_file(tensor: onnx.TensorProto, path: Path) -> Path:
    """The file of a tensor's values. Raises SourceError unless it lies beside the model and holds them."""
    about = {item.key: item.value for item in tensor.external_data}
    location = about.get("location", "")
    place = f"model.file: {path.name}: the values of '{tensor.name}' are in the external file '{location}'"
    file: Path = path.parent / location
    inside = file.resolve().is_relative_to(path.parent.resolve())
    if not location or Path(location).is_absolute() or not inside:
        raise SourceError(
            f"{place}, which lies outside the model's folder; put it beside the model and save the model again"
        )
    if not file.is_file():
        raise SourceError(f"{place}, which is missing; copy it, too, beside the model")
    needed = int(about.get("offset", 0)) + _size_bytes(tensor)
    if file.stat().st_size < needed or int(about.get("length", _size_bytes(tensor))) < _size_bytes(tensor):
        raise SourceError(
            f"{place}, which has {file.stat().st_size:,} bytes and needs {needed:,}; it is truncated or of another model: copy it again"
        )
    return file.resolve()


def _size_bytes(tensor: onnx.TensorProto) -> int:
    import onnx

    count = 1
    for size in tensor.dims:
        count *= size
    return int(count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def array_of(tensor: onnx.TensorProto, path: Path) -> Array:
    """A tensor's values; `path` is the model's file, beside which external ones lie."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    if not is_external(tensor):
        array: Array = numpy_helper.to_array(tensor)
        return array
    file = external_file(tensor, path)
    offset = int(next((item.value for item in tensor.external_data if item.key == "offset"), 0))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count = _size_bytes(tensor) // dtype.itemsize
    values: Array = np.fromfile(file, dtype=dtype.newbyteorder("<"), count=count, offset=offset)
    return values.astype(dtype, copy=False).reshape(tuple(tensor.dims))


def attribute_of(item: onnx.AttributeProto, path: Path) -> Any:
    """An attribute as a Python value or an array."""
    import onnx

    if item.type == onnx.AttributeProto.TENSOR:
        return array_of(item.t, path)
    value = onnx.helper.get_attribute_value(item)
    return value.decode() if isinstance(value, bytes) else value


def constant_of(attributes: Mapping[str, Any]) -> Array:
    """The value of a Constant node."""
    import numpy as np

    (name, value), *_ = attributes.items()
    if name == "value":
        array: Array = value
        return array
    dtype = np.float32 if "float" in name else np.int64
    return np.array(value, dtype)
