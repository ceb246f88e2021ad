"""An ONNX graph under edit: nodes, constants as arrays, who makes and who reads a tensor; and how it becomes a file."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepack.core.errors import StageError, UnsupportedError
from edgepack.core.files import write_atomic
from edgepack.core.types import Array

_SCOPES = "pkg.torch.onnx.name_scopes"  # where torch's exporter writes the module path of a node


@dataclass(slots=True)
class Graph:
    """One model's graph. `nodes` are protobuf messages in topological order, `constants` the initializers by name.

    `inputs` and `outputs` are protobuf values, `ranks` says how many dimensions a tensor has where that is known.
    """

    opset: int
    nodes: list[Any]
    constants: dict[str, Array]
    inputs: list[Any]
    outputs: list[Any]
    ranks: dict[str, int]
    taken: set[str] = field(default_factory=set)
    shared: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def copy(self) -> Graph:
        """A graph that can be edited without changing this one. The constants' values are shared: nobody edits them in place."""
        made = replace(self, constants=dict(self.constants), ranks=dict(self.ranks), taken=set(self.taken), shared={})
        made.nodes, made.inputs, made.outputs = (
            copy.deepcopy(part) for part in (self.nodes, self.inputs, self.outputs)
        )
        return made

    def producers(self) -> dict[str, Any]:
        """The node that writes each tensor; inputs and constants have none."""
        return {tensor: node for node in self.nodes for tensor in node.output}

    def readers(self) -> dict[str, list[Any]]:
        """The nodes that read each tensor."""
        found: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for tensor in dict.fromkeys(node.input):
                found[tensor].append(node)
        return found

    def output_names(self) -> list[str]:
        return [item.name for item in self.outputs]

    def fresh(self, name: str) -> str:
        """A tensor name that nobody has yet: this one, or with primes."""
        while name in self.taken:
            name += "'"
        self.taken.add(name)
        return name

    def constant(self, name: str, values: Array, *, shared: bool = False) -> str:
        """Keep a constant and answer its name. One that may be `shared` takes the name of any equal one that may, too."""
        if shared:
            key = (values.dtype.str, values.shape, values.tobytes())
            if key not in self.shared:
                self.shared[key] = self.constant(name, values)
            return self.shared[key]
        name = self.fresh(name)
        self.constants[name] = values
        return name

    def let_read(self, old: str, new: str) -> None:
        """Every reader of `old` reads `new` instead."""
        for node in self.nodes:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new


def read_graph(model: Any) -> Graph:
    """Take a ModelProto apart."""
    from onnx import numpy_helper

    graph = model.graph
    known = [
        item for item in (*graph.input, *graph.value_info, *graph.output) if item.type.tensor_type.HasField("shape")
    ]
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    return Graph(
        opset=next(item.version for item in model.opset_import if item.domain == ""),
        nodes=list(graph.node),
        constants=constants,
        inputs=list(graph.input),
        outputs=list(graph.output),
        ranks={item.name: len(item.type.tensor_type.shape.dim) for item in known},
        taken={name for node in graph.node for name in (*node.input, *node.output)} | set(constants),
    )


def make_node(kind: str, inputs: list[str], outputs: list[str], *, like: Any = None, **attributes: Any) -> Any:
    """A node named after its output; `like` another one when it takes that one's place in the network."""
    from onnx import helper

    node = helper.make_node(kind, inputs, outputs, name=f"{kind}:{outputs[0]}", **attributes)
    if like is not None:
        node.metadata_props.extend(like.metadata_props)
    return node


def place(node: Any) -> str:
    """The module path that a node comes from, as far as the exporter knows it; else the node's own name."""
    scopes = next((item.value for item in node.metadata_props if item.key == _SCOPES), "")
    paths = [path for path in re.findall(r"'([^']*)'", scopes)[:-1] if path and "__nncf_hooks" not in path]
    return paths[-1] if paths else str(node.name or node.output[0])


def refuse_unlisted(graph: Graph, allowed: Collection[str]) -> None:
    """Raises UnsupportedError for the first operator that the target doesn't list, with its place; an empty list allows all of the standard."""
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedError(
                f"ONNX operator {node.domain}.{node.op_type} at '{place(node)}' is not in the ONNX standard; replace the operation"
            )
        if allowed and node.op_type not in allowed:
            raise UnsupportedError(
                f"ONNX operator {node.op_type} at '{place(node)}' is not in the target's list of operators; replace the operation, "
                "or add it to 'operators' under [exporter_options] in the target's file if the device's runtime has it"
            )


def write_graph(graph: Graph, path: Path) -> None:
    """Check the graph against the standard, with full shape inference, and write it without a trace of how it was made.

    Names of this machine's files, source lines and the exporter's notes stay out; the same graph gives the same bytes.
    Raises StageError when the checker refuses it.
    """
    import onnx

    model = _bare_model(graph)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise StageError(f"{path.name}: the ONNX checker refuses the exported graph: {exc}") from exc
    write_atomic(path, model.SerializeToString(deterministic=True))


def _bare_model(graph: Graph) -> Any:
    from onnx import helper, numpy_helper

    read = {name for node in graph.nodes for name in node.input} | set(graph.output_names())
    for node in graph.nodes:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    made = helper.make_graph(
        graph.nodes,
        "model",
        [_bare_value(item) for item in graph.inputs],
        [_bare_value(item) for item in graph.outputs],
        [numpy_helper.from_array(values, name) for name, values in graph.constants.items() if name in read],
    )
    opsets = [helper.make_opsetid("", graph.opset)]
    model = helper.make_model(made, opset_imports=opsets, producer_name="edgepack")
    model.ir_version = helper.find_min_ir_version_for(
        opsets
    )  # the oldest with this opset, so that old runtimes open it
    return model


def _bare_value(item: Any) -> Any:
    from onnx import helper

    tensor = item.type.tensor_type
    return helper.make_tensor_value_info(
        item.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    )
