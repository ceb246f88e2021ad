"""Pass that finds activations and norms that a file spells out in arithmetic, and gives them their names.

Exporters of older opsets, and people, write hard swish as x · relu6(x + 3) / 6 and layer norm as seven operations. Kernels and quantization know the
whole, and each part would be rounded on a grid of its own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from edgepack.network.imported.draft import Draft, argument, kind_of, shape_of
from edgepack.network.imported.layers import shifted_under_relu6

aten = torch.ops.aten
_TOLERANCE = 1e-3  # relative: 0.7071 is √½ to whoever writes it


def recognize(draft: Draft) -> None:
    """Hard swish, SiLU, GELU (both kinds) and layer norm."""
    for node in list(draft.graph.nodes):
        if kind_of(node) == "mul" and node.users and not node.kwargs:
            _gated(draft, node)
    draft.sweep()
    for node in list(draft.graph.nodes):
        if kind_of(node) in ("mul", "div") and node.users:
            _hard_swish(draft, node)
            _gelu(draft, node)
    draft.sweep()
    for node in list(draft.graph.nodes):
        if kind_of(node) in ("div", "mul") and node.users:
            _layer_norm(draft, node)
    draft.sweep()


def _gated(draft: Draft, node: fx.Node) -> None:
    """x · hardsigmoid(x), x · sigmoid(x)."""
    for x, gate in (node.args[:2], node.args[1::-1]):
        if isinstance(x, fx.Node) and isinstance(gate, fx.Node) and gate.args[:1] == (x,):
            named = {"hardsigmoid": aten.hardswish.default, "sigmoid": aten.silu.default}.get(kind_of(gate))
            if named is not None:
                draft.replace(node, draft.call(named, x, before=node))
                return


def _hard_swish(draft: Draft, node: fx.Node) -> None:
    """(x · relu6(x + 3)) / 6; where the 6 divides the other factor, that is a hard sigmoid already."""
    factors, scale = _factors(node)
    if len(factors) == 2 and math.isclose(scale, 1 / 6, rel_tol=_TOLERANCE):
        for x, clipped in (factors, factors[::-1]):
            if shifted_under_relu6(clipped) is x:
                draft.replace(node, draft.call(aten.hardswish.default, x, before=node))
                return


def _gelu(draft: Draft, node: fx.Node) -> None:
    """x · ½ · (1 + erf(x / √2)), or with tanh(√(2/π) · (x + 0.044715 x³)), in any order of the factors."""
    factors, scale = _factors(node)
    inner = next((factor for factor in factors if _one_plus(factor) is not None), None)
    rest = [factor for factor in factors if factor is not inner]
    if inner is None or len(rest) != 1 or not math.isclose(scale, 0.5, rel_tol=_TOLERANCE):
        return
    x, curve = rest[0], _one_plus(inner)
    assert curve is not None
    if kind_of(curve) == "erf" and _is_scaled(curve.args[0], x, math.sqrt(0.5)):
        draft.replace(node, draft.call(aten.gelu.default, x, before=node))
    elif kind_of(curve) == "tanh" and _is_cubic(curve.args[0], x):
        draft.replace(node, draft.call(aten.gelu.default, x, before=node, approximate="tanh"))


def _factors(node: Any) -> tuple[list[fx.Node], float]:
    """A product as its tensors and the number before them."""
    if kind_of(node) == "div" and isinstance(node.args[1], (int, float)) and not node.kwargs:
        tensors, scale = _factors(node.args[0])
        return tensors, scale / node.args[1]
    if kind_of(node) != "mul" or node.kwargs:
        return [node], 1.0
    tensors, scale = [], 1.0
    for arg in node.args:
        if isinstance(arg, (int, float)):
            scale *= arg
        else:
            more, by = _factors(arg)
            tensors += more
            scale *= by
    return tensors, scale


def _one_plus(node: Any) -> fx.Node | None:
    """The other part of a sum with 1."""
    if kind_of(node) != "add" or node.kwargs or node.args[1] != 1:
        return None
    return node.args[0] if isinstance(node.args[0], fx.Node) else None


def _is_scaled(node: Any, x: fx.Node, factor: float) -> bool:
    tensors, scale = _factors(node)
    return tensors == [x] and math.isclose(scale, factor, rel_tol=_TOLERANCE)


def _is_cubic(node: Any, x: fx.Node) -> bool:
    """√(2/π) · (x + 0.044715 x³)"""
    tensors, scale = _factors(node)
    if (
        len(tensors) != 1
        or kind_of(tensors[0]) != "add"
        or not math.isclose(scale, math.sqrt(2 / math.pi), rel_tol=_TOLERANCE)
    ):
        return False
    first, second = tensors[0].args[:2]
    cubic = second if first is x else first if second is x else None
    parts, factor = _factors(cubic)
    is_power = len(parts) == 1 and kind_of(parts[0]) == "pow" and parts[0].args == (x, 3)
    return (is_power or parts == [x, x, x]) and math.isclose(factor, 0.044715, rel_tol=_TOLERANCE)


def _layer_norm(draft: Draft, node: fx.Node) -> None:
    """(x − mean(x)) / √(mean((x − mean(x))²) + ε) over the last dimension; the scale and shift that follow it belong to it."""
    centered, variance_plus = _quotient(node)
    if centered is None or kind_of(variance_plus) != "add" or not isinstance(variance_plus.args[1], (int, float)):
        return
    x = centered.args[0] if kind_of(centered) == "sub" else None
    variance = variance_plus.args[0]
    if not isinstance(x, fx.Node) or not _is_mean(centered.args[1], x) or not _is_mean(variance, None):
        return
    squared = variance.args[0]
    is_square = (
        squared.args == (centered, 2) if kind_of(squared) == "pow"
        else squared.args == (centered, centered) if kind_of(squared) == "mul"
        else kind_of(squared) == "square" and squared.args == (centered,)
    )  # fmt: skip
    size = shape_of(x)[-1]
    if not is_square or not isinstance(size, int):
        return
    last, scale = _applied(draft, node, "mul", size)
    last, shift = _applied(draft, last, "add", size) if scale is not None else (last, None)
    epsilon = float(variance_plus.args[1])
    draft.replace(last, draft.call(aten.layer_norm.default, x, [size], scale, shift, epsilon, before=last))


def _quotient(node: fx.Node) -> tuple[fx.Node | None, Any]:
    """(a, v) of a / √v or a · 1/√v."""
    left, right = node.args[:2]
    if kind_of(node) == "div" and kind_of(right) == "sqrt":
        return left, right.args[0]  # type: ignore[return-value, union-attr]
    if kind_of(node) == "mul":
        for a, root in ((left, right), (right, left)):
            if kind_of(root) == "rsqrt" and isinstance(a, fx.Node):
                return a, root.args[0]  # type: ignore[union-attr]
            if kind_of(root) == "reciprocal" and kind_of(root.args[0]) == "sqrt" and isinstance(a, fx.Node):  # type: ignore[union-attr]
                return a, root.args[0].args[0]  # type: ignore[union-attr]
    return None, None


def _is_mean(node: Any, of: fx.Node | None) -> bool:
    """A mean over the last dimension that keeps it."""
    if kind_of(node) != "mean" or (of is not None and node.args[0] is not of):
        return False
    dims, rank = argument(node, 1, "dim"), len(shape_of(node.args[0]))
    return (
        isinstance(dims, (list, tuple))
        and [dim % rank for dim in dims] == [rank - 1]
        and bool(argument(node, 2, "keepdim"))
    )


def _applied(draft: Draft, node: fx.Node, kind: str, size: int) -> tuple[fx.Node, fx.Node | None]:
    """The only user of a node where it multiplies or adds a constant vector, and that vector."""
    user = next(iter(node.users)) if len(node.users) == 1 else None
    if user is None or kind_of(user) != kind or user.kwargs:
        return node, None
    for arg in user.args:
        value = draft.tensor(arg)
        if value is not None and value.shape == (size,) and isinstance(arg, fx.Node):
            return user, arg
    return node, None
