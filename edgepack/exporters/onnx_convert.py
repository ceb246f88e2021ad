"""torch's own ONNX exporter, and what it says when it can't."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from edgepack.core.errors import StageError, UnsupportedError
from edgepack.exporters.onnx_graph import Graph, read_graph
from edgepack.network.model import Model
from edgepack.network.program import Program
from edgepack.network.tracing import batch_shapes, take_nhwc

PROTOBUF_BYTES_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What the file shall look like: ONNX operator set, inputs turned to NHWC (one flag each), half precision, any number of samples."""

    opset: int
    nhwc: tuple[bool, ...]
    half: bool
    dynamic_batch: bool


def refuse_too_large(model: Model, form: Form) -> None:
    """Raises UnsupportedError for a model whose float file would be larger than protobuf allows, before anything is traced."""
    values = {id(tensor): tensor for tensor in model.network.state_dict(keep_vars=True).values()}
    size = sum(tensor.numel() * (2 if form.half else tensor.element_size()) for tensor in values.values())
    if size > PROTOBUF_BYTES_MAX:
        raise UnsupportedError(
            f"the model's values take {size:,} bytes; one .onnx file holds at most {PROTOBUF_BYTES_MAX:,} (protobuf): "
            "use a smaller model, or a target with another exporter"
        )


def convert(program: Program, model: Model, form: Form) -> tuple[Graph, dict[str, str]]:
    """The program as an ONNX graph, and the operation whose output each QuantizeLinear node's output is.

    Raises UnsupportedError for an operation without an ONNX form, and for a forward that fixes the number of samples.
    """
    module = program.module
    take_nhwc(module, form.nhwc)
    if form.half:
        _to_half(module)
    module.training = False  # an exported program is always in evaluation mode, and refuses .eval()
    examples = tuple(
        x.permute(0, 2, 3, 1).contiguous() if turn else x
        for x, turn in zip(model.example(2 if form.dynamic_batch else 1), form.nhwc, strict=True)
    )
    shapes = batch_shapes(model) if form.dynamic_batch else None
    try:
        exported = torch.export.export(module, examples, dynamic_shapes=shapes)
        made = torch.onnx.export(
            exported, (), dynamo=True, optimize=True, opset_version=form.opset, verbose=False,
            input_names=[spec.name for spec in model.inputs], output_names=[spec.name for spec in model.outputs],
        )  # fmt: skip
    except Exception as exc:
        raise UnsupportedError(f"ONNX can't take this model: {_reason(exc)}") from exc
    if made is None:
        raise StageError("torch.onnx.export returned no model")
    graph = read_graph(made.model_proto)
    _check_borders(graph, model, form)
    nodes = [node.name for node in exported.graph.nodes if _is_quantizer(node)]
    return graph, dict(zip(nodes, program.quantizers, strict=True))


def _is_quantizer(node: fx.Node) -> bool:
    return node.op == "call_function" and str(node.target).startswith("quantized_decomposed.quantize_per_tensor")


def _check_borders(graph: Graph, model: Model, form: Form) -> None:
    for items, specs in ((graph.inputs, model.inputs), (graph.outputs, model.outputs)):
        if [item.name for item in items] != [spec.name for spec in specs]:
            raise StageError(
                f"the exporter made the inputs or outputs {[item.name for item in items]} of {[spec.name for spec in specs]}: "
                "one is unused or a constant"
            )
    if not form.dynamic_batch:
        return
    symbol = graph.inputs[0].type.tensor_type.shape.dim[0].dim_param
    for item in (*graph.inputs, *graph.outputs):
        for dim in item.type.tensor_type.shape.dim:
            if symbol and dim.dim_param == symbol:
                dim.dim_param = "batch"
        if item.type.tensor_type.shape.dim[0].dim_param != "batch":
            raise UnsupportedError(
                f"dynamic_batch: '{item.name}' doesn't have the samples in its first dimension; export with a fixed batch of 1"
            )


def _to_half(module: fx.GraphModule) -> None:
    """Let the program compute in float16 between float32 borders: the app's arrays stay as they are."""
    module.half()
    cast = torch.ops.aten.to.dtype
    for node in list(module.graph.nodes):
        if node.op == "call_function":  # what forward itself turned into float32
            node.args, node.kwargs = fx.node.map_aggregate((node.args, node.kwargs), _half_dtype)
        elif node.op == "get_attr":
            _halve_constant(module, str(node.target))
    for node in list(module.graph.nodes):
        if node.op == "placeholder" and _is_float(node):
            with module.graph.inserting_after(node):
                halved = module.graph.call_function(cast, (node, torch.float16))
            node.replace_all_uses_with(halved, delete_user_cb=lambda user, own=halved: user is not own)
        elif node.op == "output":
            for source in [source for source in node.all_input_nodes if _is_float(source)]:
                with module.graph.inserting_before(node):
                    widened = module.graph.call_function(cast, (source, torch.float32))
                node.replace_input_with(source, widened)
    module.recompile()


def _half_dtype(value: Any) -> Any:
    return torch.float16 if value is torch.float32 else value


def _halve_constant(module: fx.GraphModule, path: str) -> None:
    """A tensor that is neither parameter nor buffer: `.half()` does not see it."""
    owner, _, name = path.rpartition(".")
    holder = module.get_submodule(owner)
    value = getattr(holder, name)
    if isinstance(value, torch.Tensor) and value.dtype is torch.float32:
        setattr(holder, name, value.half())


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return value is None or (isinstance(value, torch.Tensor) and value.dtype is torch.float32)


def _reason(exc: BaseException) -> str:
    """The telling lines of a long report: the operator without a counterpart and where it is, or the first lines."""
    text = re.sub(r"\x1b\[[0-9;]*m|<class '[\w.]*'>: ", "", str(exc))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if "No ONNX function found" in line or "not supported" in line.lower() or "Constraints violated" in line
    ]
    return "\n".join((telling or lines)[:6])[:1500] or type(exc).__name__
