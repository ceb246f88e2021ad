"""The torch function that computes an aten operation: what a user's forward would have called, and NNCF can trace."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import fx

from edgepack.core.errors import UnsupportedError
from edgepack.network.imported.draft import kind_of, shape_of

# What only says where a tensor lives.
_DROPPED = {"layout", "device", "pin_memory", "memory_format", "non_blocking", "copy", "out"}
_IN_FUNCTIONAL = {
    "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "gelu", "elu", "selu", "celu", "leaky_relu", "softplus", "mish", "glu",
    "logsigmoid", "softsign", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "linear", "pad", "pixel_shuffle", "pixel_unshuffle", "one_hot",
    "scaled_dot_product_attention", "layer_norm", "group_norm", "batch_norm", "prelu",
}  # fmt: skip
_RENAMED = {
    "_softmax": torch.softmax, "_log_softmax": torch.log_softmax, "_unsafe_view": torch.reshape, "view": torch.reshape,
    "log_sigmoid": F.logsigmoid, "alias": torch.clone, "true_divide": torch.div,
}  # fmt: skip
Call = tuple[str, Any, tuple[Any, ...], dict[str, Any]]


def call_of(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """(fx node kind, target, args, kwargs) of the torch call for an aten node, whose arguments are already those of the new graph.

    Raises UnsupportedError, naming the operation and its place, for one that has no function.
    """
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.op, node.target, args, kwargs  # getitem, and arithmetic of sizes
    kind = kind_of(node)
    kept = {key: value for key, value in kwargs.items() if key not in _DROPPED}
    special = _SPECIAL.get(kind)
    if special is not None:
        return special(node, args, kept)
    if kind in _IN_FUNCTIONAL:
        return "call_function", getattr(F, kind), args, kept
    function = _RENAMED.get(kind) or getattr(torch, kind, None)
    if function is None:
        raise UnsupportedError(
            f"{node.name}: the operation {node.target} has no torch function that NNCF could trace; replace it in the model"
        )
    return "call_function", function, args, kept


def _method(name: str) -> Callable[[fx.Node, tuple[Any, ...], dict[str, Any]], Call]:
    return lambda node, args, kwargs: ("call_method", name, args, kwargs)


def _clamp(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    first, second = (*args[1:], None, None)[:2]
    named: dict[str, Any] = {"max": first} if kind_of(node) == "clamp_max" else {"min": first, "max": second}
    named |= kwargs
    if kind_of(node) == "hardtanh":
        named = {"min": kwargs.get("min_val", first), "max": kwargs.get("max_val", second)}
        named = {
            "min": -1.0 if named["min"] is None else named["min"],
            "max": 1.0 if named["max"] is None else named["max"],
        }
    low, high = named.get("min"), named.get("max")
    if low == 0 and high is None:
        return "call_function", torch.relu, args[:1], {}
    if low == 0 and high == 6:
        return "call_function", F.relu6, args[:1], {}
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return "call_function", F.hardtanh, (args[0], float(low), float(high)), {}
    return "call_function", torch.clamp, args[:1], {"min": low, "max": high}


def _embedding(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return "call_function", F.embedding, (args[1], args[0]), {}


def _slice(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    given = (*args[1:], None, None, None, None)
    dim, start, end, step = int(given[0] or 0) % len(shape_of(node)), given[1], given[2], given[3]
    end = None if isinstance(end, int) and end >= 2**62 else end
    index: list[Any] = [slice(None)] * dim + [slice(start or None, end, step)]
    return "call_function", operator.getitem, (args[0], tuple(index)), {}


def _index(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return "call_function", operator.getitem, (args[0], tuple(slice(None) if i is None else i for i in args[1])), {}


def _interpolate(mode: str) -> Callable[[fx.Node, tuple[Any, ...], dict[str, Any]], Call]:
    def call(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        scales: Any = next((arg for arg in args[1:] if _is_list_of(arg, float)), kwargs.get("scale_factors"))
        align = None if mode == "nearest" else next((arg for arg in args[1:] if isinstance(arg, bool)), False)
        by = {"scale_factor": list(scales)} if scales else {"size": [int(size) for size in shape_of(node)[2:]]}
        return "call_function", F.interpolate, args[:1], {**by, "mode": mode, "align_corners": align}

    return call


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, kind) for item in value)


def _pad(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    if kind_of(node) == "constant_pad_nd":
        args = (args[0], args[1], "constant", args[2] if len(args) > 2 else kwargs.get("value", 0))
    return "call_function", F.pad, args, {} if kind_of(node) == "constant_pad_nd" else kwargs


def _batch_norm(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    x, weight, bias, mean, variance, _training, momentum, epsilon, *_ = args
    return "call_function", F.batch_norm, (x, mean, variance, weight, bias, False, momentum, epsilon), {}


def _layer_norm(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return (
        "call_function",
        F.layer_norm,
        args[:5],
        {key: kwargs[key] for key in ("weight", "bias", "eps") if key in kwargs},
    )


def _softmax(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return "call_function", F.softmax, (args[0],), {"dim": args[1] if len(args) > 1 else kwargs["dim"]}


def _reshape(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """The one size that isn't known beforehand, the batch, is written as -1. What flattens all the rest says so: then channels may go."""
    sizes = list(args[1])
    rest = shape_of(node.args[0])[1:]
    if (
        len(sizes) == 2
        and len(rest) > 1
        and all(isinstance(size, int) for size in rest)
        and sizes[1] == math.prod(rest)
    ):
        return "call_function", torch.flatten, (args[0], 1), {}
    unknown = [index for index, size in enumerate(sizes) if not isinstance(size, int)]
    if len(unknown) == 1 and -1 not in sizes:
        sizes[unknown[0]] = -1
    return "call_function", torch.reshape, (args[0], sizes), {}


_SPECIAL: dict[str, Callable[[fx.Node, tuple[Any, ...], dict[str, Any]], Call]] = {
    "clamp": _clamp, "clamp_min": _clamp, "clamp_max": _clamp, "hardtanh": _clamp, "embedding": _embedding, "slice": _slice,
    "index": _index, "pad": _pad, "constant_pad_nd": _pad, "batch_norm": _batch_norm, "layer_norm": _layer_norm,
    "softmax": _softmax, "_softmax": _softmax, "view": _reshape, "reshape": _reshape, "_unsafe_view": _reshape,
    "expand": _method("expand"), "sym_size": _method("size"), "to": _method("to"), "_to_copy": _method("to"),
    "repeat": _method("repeat"), "upsample_nearest1d": _interpolate("nearest"), "upsample_nearest2d": _interpolate("nearest"),
    "upsample_bilinear2d": _interpolate("bilinear"), "upsample_linear1d": _interpolate("linear"),
    "upsample_bicubic2d": _interpolate("bicubic"), "masked_fill": _method("masked_fill"),
}  # fmt: skip
