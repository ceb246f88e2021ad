"""Passes that take out what computes nothing, and compute now what depends on no input."""

from __future__ import annotations

import torch
from torch import fx

from edgepack.core.errors import SourceError
from edgepack.network.imported.draft import Constant, Draft, argument, kind_of, same_shape, shape_of

aten = torch.ops.aten
_COPIES = {"alias", "clone", "contiguous", "detach", "lift_fresh", "lift_fresh_copy", "positive"}
_CASTS = {"to", "_to_copy", "type_as"}
_RESHAPES = {"view", "reshape", "_unsafe_view", "expand", "flatten", "squeeze", "unsqueeze"}
_DROPOUTS = {"dropout": 2, "feature_dropout": 2, "alpha_dropout": 2, "native_dropout": 2}
_ARITHMETIC = {"add", "sub", "mul", "div", "rsub", "pow"}
_CHECKS = ("_assert", "sym_constrain_range")
_LARGEST_FOLDED = 1 << 20  # elements; a constant that folding would only repeat stays small


def drop_idle(draft: Draft) -> None:
    """Take out copies, casts to the same type, reshapes to the same shape, dropout and assertions.

    Raises SourceError for dropout in training mode.
    """
    for node in list(draft.graph.nodes):
        kind = kind_of(node)
        if kind.startswith(_CHECKS):
            draft.graph.erase_node(node)
        elif _is_idle(node, kind):
            source = node.args[0]
            assert isinstance(source, fx.Node)
            if kind == "native_dropout":
                for user in list(node.users):
                    draft.replace(user, source)
                draft.graph.erase_node(node)
            else:
                draft.replace(node, source)
    draft.sweep()


def _is_idle(node: fx.Node, kind: str) -> bool:
    if kind in _DROPOUTS:
        if argument(node, _DROPOUTS[kind], "train") and argument(node, 1, "p") != 0:
            raise SourceError(
                f"{node.name}: the program was exported in training mode (its dropout is on); export model.eval()"
            )
        return True
    if kind in _COPIES:
        return True
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    if kind in _CASTS:
        return bool(source.meta["val"].dtype == node.meta["val"].dtype)
    if kind in _RESHAPES or kind == "slice":
        return same_shape(shape_of(source), shape_of(node)) and argument(node, 4, "step", 1) == 1
    if kind == "permute":
        return list(argument(node, 1, "dims")) == list(range(len(shape_of(node))))
    return False


def fold_constants(draft: Draft) -> None:
    """Compute every operation whose inputs are all constants: a weight that forward permutes or scales becomes a constant of its own."""
    for node in list(draft.graph.nodes):
        if node.op != "call_function" or not isinstance(node.meta.get("val"), torch.Tensor) or not kind_of(node):
            continue
        sources = [draft.constant(source) for source in node.all_input_nodes]
        if any(source is None for source in sources) or not _is_static(node) or _is_random(node):
            continue
        size = node.meta["val"].numel()
        if size > _LARGEST_FOLDED and size > 2 * sum(source.value.numel() for source in sources if source):
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), draft.tensor)
        with torch.no_grad():
            value = node.target(*args, **kwargs)
        known = [source for source in sources if source is not None]
        like = max(known, key=_rank, default=None)
        draft.replace(node, draft.add_constant(value.contiguous().clone(), like=like, name=node.name, before=node))
    draft.sweep()


def plain_numbers(draft: Draft) -> None:
    """A constant without dimensions is a number in the code: training must not move it, and quantization gives it no grid."""
    for node in list(draft.graph.nodes):
        if kind_of(node) not in _ARITHMETIC:
            continue
        for position, arg in enumerate(node.args):
            value = draft.tensor(arg)
            if value is not None and value.dim() == 0 and position > 0:
                node.update_arg(position, value.item())
    draft.sweep()


def _is_static(node: fx.Node) -> bool:
    return all(isinstance(size, int) for size in shape_of(node))


def _is_random(node: fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in node.target.tags  # type: ignore[union-attr]


def _rank(constant: Constant) -> tuple[bool, int]:
    """What a folded constant is named after: the largest trained tensor in it."""
    return constant.trainable, constant.value.numel()
