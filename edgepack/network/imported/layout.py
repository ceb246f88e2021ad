"""Pass that pushes permutes towards the outputs until they meet their opposite.

A network made for NHWC has a permute before and after each convolution. Whatever lies between works on any order of dimensions once its
own dimension arguments are renamed, so the pairs cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from edgepack.network.imported.draft import Draft, argument, kind_of, shape_of

aten = torch.ops.aten
Order = tuple[int, ...]
_UNARY = {
    "relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "sigmoid", "tanh", "silu", "gelu", "elu", "selu", "celu", "leaky_relu",
    "hardswish", "hardsigmoid", "softplus", "mish", "erf", "exp", "log", "sqrt", "rsqrt", "abs", "neg", "reciprocal", "pow", "round",
    "floor", "ceil", "sin", "cos", "to", "_to_copy", "logit", "log_sigmoid", "softsign", "square", "sign",
}  # fmt: skip
_ELEMENTWISE = {"add", "sub", "mul", "div", "maximum", "minimum", "pow", "where", "rsub"}
_RESHAPES = {"view", "reshape", "_unsafe_view"}
_REDUCTIONS = {"mean", "sum", "amax", "amin", "prod", "var", "std", "logsumexp"}
_ALONG = {"softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum", "slice", "index_select", "flip"}


def sink_permutes(draft: Draft) -> None:
    """Move each permute below the operations that don't mind, and take out those that cancel."""
    for node in list(draft.graph.nodes):
        if kind_of(node) in ("transpose", "t", "swapaxes", "numpy_T"):
            _as_permute(draft, node)
    changed = True
    while changed:
        changed = False
        for node in list(draft.graph.nodes):
            if node.op == "call_function" and node.users and _rewrite(draft, node):
                changed = True
        draft.sweep()


def raise_permutes(draft: Draft) -> None:
    """Where an image's values are scaled before it is turned for the first convolution, turn it first: then channels are where layers look for them."""
    for node in list(draft.graph.nodes):
        while (chain := _chain_to_input(draft, node)) is not None:
            node = _before(draft, chain, node)
    draft.sweep()


def _chain_to_input(draft: Draft, permute: fx.Node) -> fx.Node | None:
    """The operation before a permute, where nothing but operations on single values lies between an input and it."""
    order = _order(permute)
    above = permute.args[0] if order is not None else None
    node = above
    while isinstance(node, fx.Node) and node.op == "call_function" and len(node.users) == 1:
        kind = kind_of(node)
        operands = [arg for arg in node.args if isinstance(arg, fx.Node) and draft.constant(arg) is None]
        is_pad = kind in ("pad", "constant_pad_nd") and argument(node, 2, "mode", "constant") == "constant"
        if (
            len(operands) != 1
            or operands[0] is not node.args[0]
            or not (kind in _UNARY or kind in _ELEMENTWISE or is_pad)
        ):
            return None
        node = node.args[0]
    found = isinstance(node, fx.Node) and node.op == "placeholder" and above is not node
    return above if found else None  # type: ignore[return-value]


def _before(draft: Draft, above: fx.Node, permute: fx.Node) -> fx.Node:
    """permute(op(x, …)) → op(permute(x), …); the new permute."""
    order = _order(permute)
    assert order is not None
    source = _inner(above)
    value = source.meta["val"].permute(order)
    turned = draft.call(aten.permute.default, source, list(order), before=permute, value=value)
    if kind_of(above) in ("pad", "constant_pad_nd"):
        back = tuple(order.index(dim) for dim in range(len(order)))
        rest: list[Any] = [_pads_of(above.args[1], back), *above.args[2:]]
    else:
        rest = [_turned_constant(draft, arg, order, permute) for arg in above.args[1:]]
    draft.replace(permute, draft.call(above.target, turned, *rest, before=permute, **above.kwargs))  # type: ignore[arg-type]
    draft.graph.erase_node(above)
    return turned


def _turned_constant(draft: Draft, arg: Any, order: Sequence[int], before: fx.Node) -> Any:
    """A constant for operands with this order of dimensions."""
    value = draft.tensor(arg)
    if value is None or value.dim() == 0:
        return arg
    full = value.reshape([1] * (len(order) - value.dim()) + list(value.shape)).permute(list(order)).contiguous()
    return draft.add_constant(full, like=draft.constant(arg), before=before)


def settle_permutes(draft: Draft) -> None:
    """What is left of permutes that only move ones is a reshape; of reshapes in a row, the last."""
    for node in list(draft.graph.nodes):
        order = _order(node)
        if order is not None and _is_view(_inner(node), order):
            shape = _with_free_batch(shape_of(node))
            draft.replace(node, draft.call(aten.view.default, _inner(node), shape, before=node))
    for node in list(draft.graph.nodes):
        if kind_of(node) in _RESHAPES and kind_of(node.args[0]) in _RESHAPES:
            node.replace_input_with(_inner(node), _inner(_inner(node)))
    draft.sweep()


def _as_permute(draft: Draft, node: fx.Node) -> None:
    rank = len(shape_of(node))
    order = list(range(rank))
    first, second = (0, rank - 1) if len(node.args) < 3 else (int(node.args[1]) % rank, int(node.args[2]) % rank)  # type: ignore[arg-type]
    order[first], order[second] = order[second], order[first]
    draft.replace(node, draft.call(aten.permute.default, node.args[0], order, before=node))


def _rewrite(draft: Draft, node: fx.Node) -> bool:
    kind = kind_of(node)
    if kind == "permute":
        return _merge(draft, node)
    if kind in _RESHAPES:
        return _reshape(draft, node)
    if kind == "cat":
        return _cat(draft, node)
    if kind in _ELEMENTWISE and len([arg for arg in node.args if isinstance(arg, fx.Node)]) > 1:
        return _elementwise(draft, node)
    order = _order(node.args[0]) if node.args else None
    if order is None:
        return False
    if kind in _UNARY or kind in _ELEMENTWISE:
        return _moved(draft, node, node.args, order)
    if kind in _REDUCTIONS:
        return _reduce(draft, node, order)
    if kind in _ALONG and isinstance(argument(node, 1, "dim"), int):
        dim = order[argument(node, 1, "dim") % len(order)]
        return _moved(draft, node, (node.args[0], dim, *node.args[2:]), order)
    if kind in ("pad", "constant_pad_nd"):
        return _pad(draft, node, order)
    return False


def _order(node: Any) -> Order | None:
    """The order of a permute, as non-negative dimensions; None for anything else."""
    if kind_of(node) != "permute":
        return None
    dims = argument(node, 1, "dims")
    return tuple(int(dim) % len(dims) for dim in dims)


def _inner(node: Any) -> fx.Node:
    inner = node.args[0]
    assert isinstance(inner, fx.Node)
    return inner


def _moved(draft: Draft, node: fx.Node, args: tuple[Any, ...], order: Order) -> bool:
    """op(permute(x), …) → permute(op(x, …)); `args` are those of the new operation, their first still permuted."""
    return _permuted(draft, node, (_inner(args[0]), *args[1:]), order)


def _permuted(draft: Draft, node: fx.Node, args: tuple[Any, ...], order: Sequence[int]) -> bool:
    """Replace a node by the same operation on other arguments, whose outcome is then put into an order."""
    value = node.meta["val"].permute([order.index(dim) for dim in range(len(order))])
    new = draft.call(node.target, *args, before=node, value=value, **node.kwargs)  # type: ignore[arg-type]
    if list(order) != sorted(order):
        new = draft.call(aten.permute.default, new, list(order), before=node)
    draft.replace(node, new)
    return True


def _merge(draft: Draft, node: fx.Node) -> bool:
    order, inner = _order(node), _order(node.args[0])
    assert order is not None
    source = node.args[0]
    if inner is None:
        return False
    order, source = tuple(inner[dim] for dim in order), _inner(source)
    if order == tuple(range(len(order))):
        draft.replace(node, source)
    else:
        draft.replace(node, draft.call(aten.permute.default, source, list(order), before=node))
    return True


def _reshape(draft: Draft, node: fx.Node) -> bool:
    """A permute that changes only where the ones are is none for a reshape."""
    order = _order(node.args[0])
    if order is None or not _moves_only_ones(shape_of(_inner(node.args[0])), order):
        return False
    draft.replace(node, draft.call(aten.view.default, _inner(node.args[0]), node.args[1], before=node))
    return True


def _is_view(source: fx.Node, order: Sequence[int]) -> bool:
    """Whether a permute would leave the values in memory as they are."""
    shape = shape_of(source)
    return _moves_only_ones(shape, tuple(order)) and sum(not isinstance(size, int) for size in shape) <= 1


def _moves_only_ones(shape: tuple[Any, ...], order: Order) -> bool:
    kept = [dim for dim in order if not (isinstance(shape[dim], int) and shape[dim] == 1)]
    return kept == sorted(kept)


def _with_free_batch(shape: tuple[Any, ...]) -> list[int]:
    """A shape to reshape to, with -1 for the one size that is symbolic."""
    return [size if isinstance(size, int) else -1 for size in shape]


def _elementwise(draft: Draft, node: fx.Node) -> bool:
    """All full-rank operands have one order; constants are put into it, and so is what has only ones in the places that change."""
    orders = {order for arg in node.args if (order := _order(arg)) is not None}
    if len(orders) != 1:
        return False
    order = orders.pop()
    if len(shape_of(node)) != len(order):
        return False
    back = [order.index(dim) for dim in range(len(order))]
    arguments: list[Any] = []
    for arg in node.args:
        value = draft.tensor(arg)
        if not isinstance(arg, fx.Node) or arg.meta["val"].dim() == 0:
            arguments.append(arg)
        elif _order(arg) == order:
            arguments.append(_inner(arg))
        elif value is None and _order(arg) is None and len(shape_of(arg)) == len(order) and _is_view(arg, back):
            turned = arg.meta["val"].permute(back)
            shape = _with_free_batch(tuple(turned.shape))
            arguments.append(draft.call(aten.view.default, arg, shape, before=node, value=turned))
        elif value is not None:
            arguments.append(_turned_constant(draft, arg, back, node))
        else:
            return False
    return _permuted(draft, node, tuple(arguments), order)


def _cat(draft: Draft, node: fx.Node) -> bool:
    tensors = node.args[0]
    assert isinstance(tensors, (list, tuple))
    orders = {_order(tensor) for tensor in tensors}
    order = orders.pop()
    if orders or order is None:
        return False
    dim = order[argument(node, 1, "dim", 0) % len(order)]
    return _permuted(draft, node, ([_inner(tensor) for tensor in tensors], dim), order)


def _reduce(draft: Draft, node: fx.Node, order: Order) -> bool:
    dims = argument(node, 1, "dim")
    if not isinstance(dims, (list, tuple)) or not dims:
        return False
    reduced = {int(dim) % len(order) for dim in dims}
    inner_dims = sorted(order[dim] for dim in reduced)
    kept: Sequence[int] = order
    if len(shape_of(node)) != len(order):
        left = [dim for dim in range(len(order)) if dim not in inner_dims]
        kept = [left.index(order[dim]) for dim in range(len(order)) if dim not in reduced]
    return _permuted(draft, node, (_inner(node.args[0]), inner_dims, *node.args[2:]), kept)


def _pad(draft: Draft, node: fx.Node, order: Order) -> bool:
    """`pad` counts pairs from the last dimension; only padding with a constant works on any of them."""
    if kind_of(node) == "pad" and argument(node, 2, "mode", "constant") != "constant":
        return False
    return _moved(draft, node, (node.args[0], _pads_of(node.args[1], order), *node.args[2:]), order)


def _pads_of(pads: Any, order: Order) -> list[int]:
    """The pads of the dimensions before a permute, from those after it."""
    rank = len(order)
    by_dim = {order[rank - 1 - index]: pads[2 * index : 2 * index + 2] for index in range(len(pads) // 2)}
    renamed = [size for dim in reversed(range(rank)) for size in by_dim.get(dim, [0, 0])]
    while renamed[-2:] == [0, 0]:
        renamed = renamed[:-2]
    return renamed
