"""The float operations of a network, as NNCF traces them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgepack.core.errors import UnsupportedError

WEIGHTED = {"conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "linear"}
LOOKUP = "embedding"
OUTPUT_CHANNEL_AXIS = {"conv_transpose1d": 1, "conv_transpose2d": 1}


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of the traced graph. `name` is NNCF's, e.g. 'stem/0/conv2d/0'; `kind` is the function, e.g. 'conv2d'.

    `weight` and `table` are parameters' names: what it multiplies with, and what it looks rows up in.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    consumers: tuple[str, ...]
    output_shape: tuple[int, ...]
    weight: str | None
    table: str | None = None


def trace(network: nn.Module, example: tuple[torch.Tensor, ...]) -> dict[str, Op]:
    """The float operations that depend on the network's inputs, in topological order. `network` must have no hooks.

    Raises UnsupportedError when NNCF can't trace it.
    """
    import nncf
    from nncf.torch.function_hook import wrap_model
    from nncf.torch.function_hook.nncf_graph.nncf_graph_builder import build_nncf_graph

    try:
        with torch.no_grad():
            graph = build_nncf_graph(wrap_model(network), example if len(example) > 1 else example[0])
    except (nncf.InternalError, nncf.ValidationError, RuntimeError, TypeError) as exc:
        raise UnsupportedError(f"NNCF can't trace the model's forward: {exc}") from exc
    ops: dict[str, Op] = {}
    reached: set[str] = set()  # what depends on an input, integers included
    for node in graph.topological_sort():
        edges = graph.get_input_edges(node)
        incoming = [edge for edge in edges if edge.dtype.name == "FLOAT"]
        outgoing = graph.get_output_edges(node)
        live = tuple(
            edge.from_node.node_name
            for edge in sorted(incoming, key=lambda e: e.input_port_id)
            if edge.from_node.node_name in ops
        )
        if node.node_type != "nncf_model_input" and not any(edge.from_node.node_name in reached for edge in edges):
            continue
        reached.add(node.node_name)
        if outgoing and all(edge.dtype.name != "FLOAT" for edge in outgoing):
            continue
        ops[node.node_name] = Op(
            name=node.node_name,
            kind=node.node_type.strip("_").removeprefix("i")
            if node.node_type.startswith("__i")
            else node.node_type.strip("_"),
            inputs=live,
            consumers=tuple(edge.to_node.node_name for edge in outgoing),
            output_shape=tuple(outgoing[0].tensor_shape) if outgoing else (),
            weight=_constant(graph, node) if node.node_type in WEIGHTED else None,
            table=_constant(graph, node) if node.node_type == LOOKUP else None,
        )
    return ops


def _constant(graph: Any, node: Any) -> str | None:
    """The parameter that an operation reads as its second input."""
    import nncf
    from nncf.torch.model_graph_manager import get_const_node

    try:
        const = get_const_node(node, 1, graph)
    except nncf.InternalError:  # no constant at all: forward computes the weight
        return None
    return const.layer_attributes.name if const is not None else None
