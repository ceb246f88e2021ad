"""ONNX operators with weights or windows as torch functions: convolutions, products, pooling, norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from edgepack.network.from_onnx.calls import Call

Function = Callable[[Call], Any]
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _spatial(call: Call, name: str, rank: int, default: int = 1) -> list[int]:
    return [int(item) for item in call.attribute(name, [default] * rank)]


def _pads(call: Call, x: torch.Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial dimension."""
    rank = len(kernel)
    mode = call.attribute("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        pads = _spatial(call, "pads", 2 * rank, 0) if mode == "NOTSET" else [0] * 2 * rank
        return pads[:rank], pads[rank:]
    before, after = [], []
    strides, dilations = _spatial(call, "strides", rank), _spatial(call, "dilations", rank)
    for size, length, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max((-(-int(size) // stride) - 1) * stride + (length - 1) * dilation + 1 - int(size), 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before, after


def _padded(x: torch.Tensor, before: list[int], after: list[int], value: float = 0.0) -> tuple[torch.Tensor, list[int]]:
    """The input, padded where the sides differ, and the padding that is left for the operation itself."""
    if before == after:
        return x, before
    sides = [side for pair in reversed(list(zip(before, after, strict=True))) for side in pair]
    return F.pad(x, sides, value=value), [0] * len(before)


def _conv(call: Call) -> torch.Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    rank = weight.dim() - 2
    if rank not in _CONV:
        raise call.unsupported(f"it has {rank} spatial dimensions")
    x, padding = _padded(x, *_pads(call, x, list(weight.shape[2:])))
    function: Any = _CONV[rank]
    result: torch.Tensor = function(
        x,
        weight,
        call.optional(2),
        stride=_spatial(call, "strides", rank),
        padding=padding,
        dilation=_spatial(call, "dilations", rank),
        groups=call.attribute("group", 1),
    )
    return result


def _conv_transpose(call: Call) -> torch.Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    rank = weight.dim() - 2
    if "output_shape" in call.node.attributes:
        raise call.unsupported("output_shape is given instead of pads")
    strides, dilations = _spatial(call, "strides", rank), _spatial(call, "dilations", rank)
    extra = _spatial(call, "output_padding", rank, 0)
    mode = call.attribute("auto_pad", "NOTSET")
    pads = _spatial(call, "pads", 2 * rank, 0)
    before, after = pads[:rank], pads[rank:]
    if mode.startswith("SAME"):
        reach = [(length - 1) * dilation + 1 for length, dilation in zip(weight.shape[2:], dilations, strict=True)]
        totals = [length + more - stride for length, more, stride in zip(reach, extra, strides, strict=True)]
        if any(total < 0 for total in totals):
            raise call.unsupported(f"auto_pad = {mode} with a stride larger than the kernel")
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    # Padding takes away from the result; where the sides differ, what both have in common is taken away by torch.
    common = [min(pair) for pair in zip(before, after, strict=True)]
    function: Any = _CONV_TRANSPOSE[rank]
    y: torch.Tensor = function(
        x, weight, call.optional(2), stride=strides, padding=common, output_padding=extra,
        groups=call.attribute("group", 1), dilation=dilations,
    )  # fmt: skip
    for dim, (first, last, both) in enumerate(zip(before, after, common, strict=True), start=2):
        if first != last:
            y = y.narrow(dim, first - both, y.shape[dim] - (first - both) - (last - both))
    return y


def _gemm(call: Call) -> torch.Tensor:
    """alpha · A · B + beta · C; with a transposed B, as nearly always, a linear layer."""
    a, b = call.tensor(0), call.tensor(1)
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    a = a.t() if call.attribute("transA", 0) else a
    weight = b if call.attribute("transB", 0) else b.t()
    weight = weight if alpha == 1 else weight * alpha
    bias = call.optional(2)
    bias = bias if bias is None or beta == 1 else bias * beta
    if bias is None or (bias.dim() == 1 and bias.shape[0] == weight.shape[0]):
        return F.linear(a, weight, bias)
    return F.linear(a, weight) + bias


def _max_pool(call: Call) -> torch.Tensor:
    x, kernel = call.tensor(), _spatial(call, "kernel_shape", 0)
    if len(call.node.outputs) > 1 and call.node.outputs[1]:
        raise call.unsupported("its indices are used")
    before, after = _pads(call, x, kernel)
    x, padding = _padded(x, before, after, float("-inf"))
    if any(2 * pad > length for pad, length in zip(padding, kernel, strict=True)):
        raise call.unsupported("its padding is larger than half of its window")
    return _MAX_POOL[len(kernel)](
        x,
        kernel,
        _spatial(call, "strides", len(kernel)),
        padding,
        _spatial(call, "dilations", len(kernel)),
        ceil_mode=bool(call.attribute("ceil_mode", 0)),
    )


def _average_pool(call: Call) -> torch.Tensor:
    x, kernel = call.tensor(), _spatial(call, "kernel_shape", 0)
    rank = len(kernel)
    if any(size != 1 for size in _spatial(call, "dilations", rank)):
        raise call.unsupported("it has dilations")
    strides, ceil = _spatial(call, "strides", rank), bool(call.attribute("ceil_mode", 0))
    counted = bool(call.attribute("count_include_pad", 0))
    before, after = _pads(call, x, kernel)
    function: Any = _AVERAGE_POOL[rank]
    if before == after:
        same: torch.Tensor = function(x, kernel, strides, before, ceil, counted)
        return same
    padded, none = _padded(x, before, after)
    y: torch.Tensor = function(padded, kernel, strides, none, ceil, True)
    if counted:
        return y
    shares, _ = _padded(torch.ones(1, 1, *x.shape[2:], dtype=x.dtype), before, after)
    share: torch.Tensor = function(shares, kernel, strides, none, ceil, True)
    return y / share


def _global(function: Callable[..., torch.Tensor]) -> Function:
    return lambda call: function(call.tensor(), list(range(2, call.tensor().dim())), True)


def _batch_norm(call: Call) -> torch.Tensor:
    if call.attribute("training_mode", 0):
        raise call.unsupported("it is in training mode: export the model in evaluation mode")
    scale, bias, mean, variance = (call.tensor(position) for position in range(1, 5))
    return F.batch_norm(call.tensor(), mean, variance, scale, bias, eps=call.attribute("epsilon", 1e-5))


def _layer_norm(call: Call) -> torch.Tensor:
    x, axis = call.tensor(), call.attribute("axis", -1)
    shape = list(x.shape[axis % x.dim() :])
    scale, bias = call.tensor(1), call.optional(2)
    if list(scale.shape) != shape or (bias is not None and list(bias.shape) != shape):
        plain = F.layer_norm(x, shape, eps=call.attribute("epsilon", 1e-5)) * scale
        return plain if bias is None else plain + bias
    return F.layer_norm(x, shape, scale, bias, call.attribute("epsilon", 1e-5))


def _rms_norm(call: Call) -> torch.Tensor:
    x, axis = call.tensor(), call.attribute("axis", -1)
    dims = list(range(axis % x.dim(), x.dim()))
    return x * torch.rsqrt(x.square().mean(dims, True) + call.attribute("epsilon", 1e-5)) * call.tensor(1)


def _group_norm(call: Call) -> torch.Tensor:
    """Before opset 21 scale and bias are those of groups."""
    x, groups = call.tensor(), call.attribute("num_groups")
    scale, bias = call.tensor(1), call.tensor(2)
    if call.opset < 21:
        each = int(x.shape[1]) // groups
        scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return F.group_norm(x, groups, scale, bias, call.attribute("epsilon", 1e-5))


def _instance_norm(call: Call) -> torch.Tensor:
    x, scale, bias = call.tensor(0), call.tensor(1), call.tensor(2)
    return F.group_norm(x, int(x.shape[1]), scale, bias, call.attribute("epsilon", 1e-5))


def _lp_norm(call: Call) -> torch.Tensor:
    x, axis = call.tensor(), call.attribute("axis", -1)
    if call.attribute("p", 2) == 1:
        return x / x.abs().sum(axis, keepdim=True)
    return x / x.square().sum(axis, keepdim=True).sqrt()


def _local_response(call: Call) -> torch.Tensor:
    size = call.attribute("size")
    alpha, beta, bias = call.attribute("alpha", 1e-4), call.attribute("beta", 0.75), call.attribute("bias", 1.0)
    return F.local_response_norm(call.tensor(), size, alpha, beta, bias)


LAYERS: dict[str, Function] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": lambda call: torch.matmul(call.tensor(0), call.tensor(1)),
    "Einsum": lambda call: torch.einsum(call.attribute("equation"), *(call.tensor(i) for i in range(len(call)))),
    "MaxPool": _max_pool, "AveragePool": _average_pool, "GlobalAveragePool": _global(torch.mean), "GlobalMaxPool": _global(torch.amax),
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm,
    "GroupNormalization": _group_norm, "InstanceNormalization": _instance_norm, "LpNormalization": _lp_norm, "LRN": _local_response,
}  # fmt: skip
