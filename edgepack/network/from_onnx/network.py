"""An ONNX graph as a torch network, and as a program of torch.export."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from edgepack.core.errors import EdgepackError, UnsupportedError
from edgepack.core.said import first_line
from edgepack.network.from_onnx import known
from edgepack.network.from_onnx.calls import Call, Value, as_tensor
from edgepack.network.from_onnx.elementwise import ELEMENTWISE, Function
from edgepack.network.from_onnx.graph import Graph, Node
from edgepack.network.from_onnx.layers import LAYERS
from edgepack.network.from_onnx.shapes import SHAPES
from edgepack.network.imported.batch import EXAMPLE_BATCH, Choices, export_any_batch, tried

OPERATORS: dict[str, Function] = {**ELEMENTWISE, **LAYERS, **SHAPES}
# Names that exporters make up, which say nothing about the layer; the node's own name does.
_MADE_UP = re.compile(r"(onnx::|val_|_val_|/|const|\d)")


def program_of(graph: Graph, shapes: Sequence[tuple[int, ...]], *, where: str) -> torch.export.ExportedProgram:
    """The graph as a program for any batch of inputs of these shapes (without the batch dimension).

    `where` names the file in messages. Raises UnsupportedError, naming the node, for a use of an operator that has no counterpart, and
    SourceError where samples can't be told apart.
    """
    examples = tuple(
        torch.zeros(EXAMPLE_BATCH, *shape, dtype=torch.from_numpy(np.zeros(0, one.dtype)).dtype)
        for one, shape in zip(graph.inputs, shapes, strict=True)
    )
    return tried(lambda choices: export_any_batch(OnnxNetwork(graph, choices).eval(), examples, where=where))


class OnnxNetwork(nn.Module):
    """Computes an ONNX graph node by node. Float constants are parameters, integers are known values."""

    def __init__(self, graph: Graph, choices: Choices) -> None:
        super().__init__()
        self.graph, self.choices = graph, choices
        self.places: dict[str, str] = {}
        for name, path in _parameter_names(graph).items():
            value = torch.from_numpy(np.array(graph.constants[name]))
            self.register_parameter(path, nn.Parameter(value))
            self.places[name] = path

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The graph's outputs in order."""
        values: dict[str, Value | None] = {"": None}
        values |= {name: np.asarray(array) for name, array in self.graph.constants.items()}
        values |= {name: getattr(self, path) for name, path in self.places.items()}
        values |= {one.name: value for one, value in zip(self.graph.inputs, inputs, strict=True)}
        for node in self.graph.nodes:
            results = self._compute(node, values)
            values |= dict(zip(node.outputs, results, strict=False))
        return tuple(as_tensor(value) for name in self.graph.outputs if (value := values[name]) is not None)

    def _compute(self, node: Node, values: dict[str, Value | None]) -> tuple[Any, ...]:
        call = Call(
            node=node,
            values=tuple(values[name] for name in node.inputs),
            constants=self.graph.constants,
            opset=self.graph.opset,
            choices=self.choices,
        )
        try:
            result: Any = known.compute(call)
            if result is None:
                result = OPERATORS[node.kind](call)
        except EdgepackError:
            raise
        except (TypeError, ValueError, IndexError, KeyError, NotImplementedError) as exc:
            raise UnsupportedError(
                f"model.file: {node.kind} '{node.name or node.outputs[0]}': {first_line(exc)}; edgepack can't read that"
            ) from exc
        return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def _parameter_names(graph: Graph) -> dict[str, str]:
    """A parameter's name for each float constant: its own, or that of the node that it is the weight of."""
    users: dict[str, Node] = {}
    for node in graph.nodes:
        for name in node.inputs[1:]:
            users.setdefault(name, node)
    found: dict[str, str] = {}
    for name, array in graph.constants.items():
        if array.dtype.kind != "f":
            continue
        user = users.get(name)
        wanted = f"{_layer(user)}/weight" if _MADE_UP.match(name) and user is not None and user.name else name
        path = re.sub(r"[.]", "/", wanted)
        while path in found.values():
            path += "_"
        found[name] = path
    return found


def _layer(node: Node) -> str:
    """A readable place: '/layer1/layer1.0/conv1/Conv' → 'layer1.0/conv1' (an exporter repeats a sequence's own name)."""
    parts = [part for part in node.name.split("/") if part]
    parts = parts[:-1] if len(parts) > 1 and parts[-1].startswith(node.kind) else parts
    kept = [part for part, then in zip(parts, [*parts[1:], ""], strict=True) if not then.startswith(f"{part}.")]
    return "/".join(kept) or node.kind
