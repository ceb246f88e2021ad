"""A program of torch.export under edit: its graph with the constants beside it, and the shape of every value known."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.export.graph_signature import InputKind, OutputKind

from edgepack.core.errors import SourceError

_ALIASES = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "concat": "cat", "concatenate": "cat",
    "absolute": "abs", "negative": "neg", "clip": "clamp",
}  # fmt: skip
_CONSTANTS = {InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR}


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A tensor that the program holds. `trainable` where training may change it."""

    name: str
    value: torch.Tensor
    trainable: bool


class Draft:
    """The graph of a functional program in aten operations; its get_attr nodes are constants, looked up here."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        """`program` is functional (`run_decompositions`). Raises SourceError for one that changes its own state."""
        signature = program.graph_signature
        mutated = [spec.target for spec in signature.output_specs if spec.kind is not OutputKind.USER_OUTPUT]
        if mutated:
            raise SourceError(
                f"the program changes its own state ('{mutated[0]}') when it runs, as batch norm does in training; "
                "export the model in evaluation mode: torch.export.export(model.eval(), …)"
            )
        self.graph = fx.Graph()
        self._constants: dict[str, Constant] = {}
        copied: dict[fx.Node, fx.Node] = {}
        specs = {spec.arg.name: spec for spec in signature.input_specs}
        for node in program.graph.nodes:
            spec = specs.get(node.name) if node.op == "placeholder" else None
            if spec is not None and spec.kind in _CONSTANTS:
                assert spec.target is not None
                value = _value_of(program, spec.target)
                copied[node] = self._place(spec.target, value, spec.kind is InputKind.PARAMETER)
            else:
                copied[node] = self.graph.node_copy(node, copied.__getitem__)
                copied[node].meta = dict(node.meta)

    def constant(self, arg: Any) -> Constant | None:
        """The constant that an argument is, or None."""
        return self._constants[str(arg.target)] if isinstance(arg, fx.Node) and arg.op == "get_attr" else None

    def tensor(self, arg: Any) -> torch.Tensor | None:
        """The values of the constant that an argument is, or None."""
        found = self.constant(arg)
        return None if found is None else found.value

    def add_constant(
        self, value: torch.Tensor, *, like: Constant | None, name: str = "constant", before: fx.Node
    ) -> fx.Node:
        """A new constant; named and trained as the one that it is made from."""
        with self.graph.inserting_before(before):
            return self._place(like.name if like else name, value, like.trainable if like else False)

    def call(
        self, target: Callable[..., Any], *args: Any, before: fx.Node, value: Any = None, **kwargs: Any
    ) -> fx.Node:
        """A new operation whose outcome looks like `value`, by default like that of the node it stands before.

        (Computing shapes anew could make the batch what a kernel happens to ask for.)
        """
        with self.graph.inserting_before(before):
            node = self.graph.call_function(target, args, kwargs)
        node.meta = {key: before.meta[key] for key in ("nn_module_stack", "stack_trace") if key in before.meta}
        node.meta["val"] = before.meta["val"] if value is None else value
        return node

    def replace(self, old: fx.Node, new: fx.Node) -> None:
        """Use `new` wherever `old` was used, and take `old` out."""
        old.replace_all_uses_with(new)
        self.graph.erase_node(old)

    def sweep(self) -> None:
        """Take out what nothing uses."""
        self.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))

    def _place(self, name: str, value: torch.Tensor, trainable: bool) -> fx.Node:
        target = f"c{len(self._constants)}"
        trained = trainable and value.is_floating_point()
        self._constants[target] = Constant(name=name, value=value.detach(), trainable=trained)
        node = self.graph.create_node("get_attr", target, name=re.sub(r"\W", "_", name))
        node.meta["val"] = value.detach()
        return node


def kind_of(node: Any) -> str:
    """The aten name of an operation without its overload, 'conv2d', the same for all its aliases; '' for anything else."""
    if isinstance(node, fx.Node) and isinstance(node.target, torch._ops.OpOverload):
        space, _, name = node.target._schema.name.partition("::")
        return _ALIASES.get(name, name) if space == "aten" else ""
    return ""


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument by its place or its name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def shape_of(node: Any) -> tuple[Any, ...]:
    """Sizes of a node's value; the batch may be symbolic."""
    return tuple(node.meta["val"].shape)


def same_size(left: Any, right: Any) -> bool:
    """Whether two sizes are known to be equal, without a new assumption about the batch."""
    return left == right if isinstance(left, int) and isinstance(right, int) else str(left) == str(right)


def same_shape(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    """Whether all sizes of two shapes are known to be equal."""
    return len(left) == len(right) and all(map(same_size, left, right))


def _value_of(program: torch.export.ExportedProgram, name: str) -> torch.Tensor:
    value = program.state_dict.get(name)
    value = program.constants[name] if value is None else value
    assert isinstance(value, torch.Tensor)
    return value
