"""An ONNX file as plain values, with everything that can be known about it before torch is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.core.errors import SourceError, UnsupportedError
from edgepack.core.said import first_line
from edgepack.core.types import Array
from edgepack.network.from_onnx.values import array_of, attribute_of, constant_of, external_file, is_external

if TYPE_CHECKING:
    import onnx

OPSETS = range(9, 25)
_LARGEST_BYTES = 2**31 - 1  # what one protobuf message may have
_SHOWN = 12
# What the functions of `operators` compute; a test holds both lists equal. (They need torch, and a plan must not wait for it.)
SUPPORTED = frozenset(["Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "CumSum", "DepthToSpace", "Div", "Dropout", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow", "RMSNormalization", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Upsample", "Where", "Xor"])  # fmt: skip
_QUANTIZED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
    "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearGlobalAveragePool", "QGemm", "QAttention", "MatMulNBits",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operation; '' among the inputs is one that is left out. Attributes are Python values and arrays."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """An input: batch first; a size that is left open is a text. The type is NumPy's name for it."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The nodes in an order in which they can run. `constants` maps names to arrays."""

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    opset: int


def read_model(path: Path) -> onnx.ModelProto:
    """The file without its external data. Raises SourceError for one that is too large, truncated or something else."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # its stubs are a package of their own

    where = f"model.file: {path.name}"
    if path.stat().st_size > _LARGEST_BYTES:
        raise SourceError(
            f"{where}: has {path.stat().st_size:,} bytes, and a file of protobuf ends at 2 GB; save it with external data: "
            "onnx.save_model(model, path, save_as_external_data=True)"
        )
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError, RuntimeError) as exc:
        raise SourceError(f"{where}: is truncated or no ONNX file ({first_line(exc)}); copy it again") from exc
    if not model.graph.node or not model.graph.output:
        raise SourceError(f"{where}: holds no graph with outputs; it is truncated or no ONNX file: copy it again")
    return model


def check_model(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """The files of its external data. Raises before anything expensive what would fail in it.

    UnsupportedError for operators, versions and domains that edgepack can't read, SourceError for a file that is not whole.
    """
    where = f"model.file: {path.name}"
    _check_opset(model, where)
    _check_operators(model, where)
    _sorted_nodes(model, where)
    return tuple(dict.fromkeys(external_file(tensor, path) for tensor in _tensors(model) if is_external(tensor)))


def inputs_of(model: onnx.ModelProto) -> tuple[Input, ...]:
    """The inputs that have no value in the file."""
    import onnx

    known = {tensor.name for tensor in model.graph.initializer}
    found = []
    for value in model.graph.input:
        if value.name in known:
            continue
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise SourceError(
                f"model.file: input '{value.name}' is no tensor with a known number of dimensions; export it with its shape"
            )
        about = value.type.tensor_type
        shape = tuple(_size(dimension, place) for place, dimension in enumerate(about.shape.dim))
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(about.elem_type))
        found.append(Input(name=value.name, shape=shape, dtype=dtype))
    return tuple(found)


def graph_of(model: onnx.ModelProto, path: Path) -> Graph:
    """Everything, constants included. Raises SourceError where the checker of onnx finds the model wrong."""
    import onnx
    from onnx import inliner

    where = f"model.file: {path.name}"
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as exc:
        raise SourceError(f"{where}: is no valid ONNX model: {first_line(exc)}; export it again") from exc
    if model.functions:
        model = inliner.inline_local_functions(model)
    constants = {tensor.name: array_of(tensor, path) for tensor in model.graph.initializer}
    nodes = []
    for node in _sorted_nodes(model, where):
        attributes = {item.name: attribute_of(item, path) for item in node.attribute}
        if node.op_type == "Constant":
            constants[node.output[0]] = constant_of(attributes)
        else:
            nodes.append(
                Node(
                    kind=node.op_type,
                    name=node.name,
                    inputs=tuple(node.input),
                    outputs=tuple(node.output),
                    attributes=attributes,
                )
            )
    return Graph(
        inputs=inputs_of(model),
        outputs=tuple(value.name for value in model.graph.output),
        nodes=tuple(nodes),
        constants=constants,
        opset=_opset(model),
    )


# --- Checks ---------------------------------------------------------------------------------------------------------


def _opset(model: onnx.ModelProto) -> int:
    return next((int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)


def _check_opset(model: onnx.ModelProto, where: str) -> None:
    opset = _opset(model)
    if opset not in OPSETS:
        what = f"uses opset {opset}" if opset else "names no opset of ai.onnx"
        raise UnsupportedError(
            f"{where}: {what}, and edgepack reads {OPSETS.start} to {OPSETS.stop - 1}; export it again with one of these, or convert it with onnx.version_converter"
        )


def _check_operators(model: onnx.ModelProto, where: str) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [node for node in _all_nodes(model) if (node.domain, node.op_type) not in own]
    quantized = [node for node in nodes if node.op_type in _QUANTIZED]
    if quantized:
        raise UnsupportedError(
            f"{where}: is quantized already ({_listed(quantized)}); edgepack quantizes float models itself: give the model from before"
        )
    unknown = [node for node in nodes if node.op_type not in SUPPORTED or node.domain not in ("", "ai.onnx")]
    if unknown:
        raise UnsupportedError(
            f"{where}: edgepack can't read these operators: {_listed(unknown)}; replace them in the model, or export it from another opset"
        )


def _listed(nodes: Iterable[onnx.NodeProto]) -> str:
    """Each kind of operator once, with the names of its nodes."""
    kinds: dict[str, list[str]] = {}
    for node in nodes:
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        kinds.setdefault(kind, []).append(node.name or node.output[0])
    shown = [
        f"{kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" for kind, names in sorted(kinds.items())
    ]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more kinds" if len(shown) > _SHOWN else "")


def _all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [*model.graph.node, *(node for function in model.functions for node in function.node)]


def _sorted_nodes(model: onnx.ModelProto, where: str) -> list[onnx.NodeProto]:
    """The nodes in an order in which they can run. Raises SourceError for a cycle, and for an input that nothing makes."""
    graph = model.graph
    ready = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    ready |= {tensor.values.name for tensor in graph.sparse_initializer}
    made = {name for node in graph.node for name in node.output}
    waiting, ordered = list(graph.node), []
    for node in waiting:
        missing = next((name for name in node.input if name not in ready and name not in made), None)
        if missing is not None:
            raise SourceError(
                f"{where}: node '{node.name or node.op_type}' reads '{missing}', which nothing in the file makes; it is truncated or was edited: export it again"
            )
    while waiting:
        runnable = [node for node in waiting if all(name in ready for name in node.input)]
        if not runnable:
            names = ", ".join(node.name or node.output[0] for node in waiting[:_SHOWN])
            raise SourceError(f"{where}: these nodes wait for each other, in a cycle: {names}; export the model again")
        # Keep the file's order as far as it can run: it is nearly always sorted.
        rest = []
        for node in waiting:
            if all(name in ready for name in node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                rest.append(node)
        waiting = rest
    absent = next((value.name for value in graph.output if value.name not in ready), None)
    if absent is not None:
        raise SourceError(
            f"{where}: output '{absent}' is made by no node; it is truncated or was edited: export it again"
        )
    return ordered


def _tensors(model: onnx.ModelProto) -> Iterable[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in _all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _size(dimension: Any, place: int) -> int | str:
    if dimension.HasField("dim_value") and dimension.dim_value > 0:
        return int(dimension.dim_value)
    return dimension.dim_param or f"dimension {place}"
