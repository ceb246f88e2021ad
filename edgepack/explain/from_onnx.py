"""Operators and shapes of an `.onnx` file, as ONNX's own shape inference finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.explain.graph import Node, Shape, Wiring

if TYPE_CHECKING:
    import onnx


def read(data: bytes) -> Wiring:
    """The main graph. Raises ValueError for bytes that are no ONNX model; a tensor whose shape isn't fixed is left out of the shapes."""
    import onnx

    try:
        model = onnx.load_from_string(data)
        graph = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError as exc:
        raise ValueError(str(exc)) from exc
    except Exception as exc:
        if type(exc).__name__ == "DecodeError":  # protobuf's, which has no types to import
            raise ValueError(str(exc)) from exc
        raise
    shapes: dict[str, Shape] = {one.name: tuple(one.dims) for one in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = _shape(value)
        if shape is not None:
            shapes[value.name] = shape
    nodes = tuple(
        Node(name=one.name, kind=one.op_type.lower(), inputs=tuple(one.input), outputs=tuple(one.output))
        for one in graph.node
    )
    stored = {one.name for one in graph.initializer}
    inputs = frozenset(one.name for one in graph.input if one.name not in stored)
    return Wiring(nodes=nodes, inputs=inputs, shapes=shapes)


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    """A batch of any size counts as 1; another size that isn't fixed leaves the shape unknown."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    sizes = [one.dim_value if one.HasField("dim_value") else 0 for one in kind.shape.dim]
    if sizes and sizes[0] < 1:
        sizes[0] = 1
    return tuple(sizes) if all(size > 0 for size in sizes) else None
