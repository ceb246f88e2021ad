"""ONNX operators that work on each element, or along dimensions, as torch functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from edgepack.network.from_onnx.calls import Call

Function = Callable[[Call], Any]


def _unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Function:
    return lambda call: function(call.tensor())


def _binary(function: Callable[..., torch.Tensor]) -> Function:
    """A constant of one element is a number: a weight of one element would only be in the way."""

    def compute(call: Call) -> torch.Tensor:
        left, right = call.tensor(0), _operand(call, 1)
        if (
            isinstance(right, torch.Tensor)
            and isinstance(_operand(call, 0), (int, float))
            and left.dim() <= right.dim()
        ):
            left = torch.tensor(call.scalar(0), dtype=right.dtype)
        return function(left, right)

    return compute


def _operand(call: Call, position: int) -> torch.Tensor | float | int:
    value = call.tensor(position)
    number = call.scalar(position)
    other = call.tensor(1 - position)
    return value if number is None or value.dim() > other.dim() or value.dtype != other.dtype else number


def _variadic(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Function:
    def compute(call: Call) -> torch.Tensor:
        result = call.tensor(0)
        for position in range(1, len(call)):
            result = function(result, call.tensor(position))
        return result

    return compute


def _mean(call: Call) -> torch.Tensor:
    total: torch.Tensor = _variadic(torch.add)(call)
    return total / len(call)


def _clip(call: Call) -> torch.Tensor:
    low, high = (
        call.attribute(name) if name in call.node.attributes else call.scalar(position)
        for position, name in ((1, "min"), (2, "max"))
    )
    if (low is None and call.has(1)) or (high is None and call.has(2)):
        raise call.unsupported("its bounds depend on the inputs' values")
    x = call.tensor()
    limits = torch.finfo(x.dtype) if x.is_floating_point() else torch.iinfo(x.dtype)
    low = None if low is None or low <= limits.min else low
    high = None if high is None or high >= limits.max else high
    return x if low is None and high is None else torch.clamp(x, low, high)


def _hard_sigmoid(call: Call) -> torch.Tensor:
    alpha, beta = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(call.tensor())
    return torch.clamp(call.tensor() * alpha + beta, 0, 1)


def _elu(call: Call) -> torch.Tensor:
    return F.elu(call.tensor(), call.attribute("alpha", 1.0))


def _selu(call: Call) -> torch.Tensor:
    alpha, gamma = call.attribute("alpha", 1.67326319), call.attribute("gamma", 1.05070102)
    return F.elu(call.tensor(), alpha) * float(gamma)


def _thresholded_relu(call: Call) -> torch.Tensor:
    return F.threshold(call.tensor(), call.attribute("alpha", 1.0), 0.0)


def _prelu(call: Call) -> torch.Tensor:
    x, slope = call.tensor(0), call.tensor(1)
    if slope.numel() == 1 or (x.dim() > 1 and slope.numel() == x.shape[1] and slope.dim() == x.dim() - 1):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


def _cast(call: Call) -> torch.Tensor:
    wanted = onnx.helper.tensor_dtype_to_np_dtype(call.attribute("to"))
    return call.tensor().to(torch.from_numpy(np.zeros(0, wanted)).dtype)


def _pow(call: Call) -> torch.Tensor:
    exponent = call.scalar(1)
    return torch.pow(call.tensor(0), call.tensor(1) if exponent is None else exponent)


def _mod(call: Call) -> torch.Tensor:
    function = torch.fmod if call.attribute("fmod", 0) else torch.remainder
    return function(call.tensor(0), call.tensor(1))


def _divide(left: torch.Tensor, right: Any) -> torch.Tensor:
    if left.is_floating_point():
        return torch.div(left, right)
    return torch.div(left, right, rounding_mode="trunc")


def _softmax(function: Callable[..., torch.Tensor]) -> Function:
    """Before opset 13 everything from the axis on is one dimension."""

    def compute(call: Call) -> torch.Tensor:
        x = call.tensor()
        axis = call.attribute("axis", -1 if call.opset >= 13 else 1)
        if call.opset >= 13 or axis in (-1, x.dim() - 1):
            return function(x, dim=axis)
        return function(x.flatten(axis), dim=-1).reshape(x.shape)

    return compute


def _reduction(function: Callable[[torch.Tensor, list[int], bool], torch.Tensor]) -> Function:
    def compute(call: Call) -> torch.Tensor:
        x = call.tensor()
        axes = call.listed("axes", 1)
        if not axes and call.attribute("noop_with_empty_axes", 0):
            return x
        dims = [axis % x.dim() for axis in axes] if axes else list(range(x.dim()))
        return function(x, dims, bool(call.attribute("keepdims", 1)))

    return compute


def _product(x: torch.Tensor, dims: list[int], keep: bool) -> torch.Tensor:
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim, keepdim=keep)
    return x


def _arg(function: Callable[..., torch.Tensor]) -> Function:
    def compute(call: Call) -> torch.Tensor:
        if call.attribute("select_last_index", 0):
            raise call.unsupported("select_last_index is set")
        return function(call.tensor(), dim=call.attribute("axis", 0), keepdim=bool(call.attribute("keepdims", 1)))

    return compute


def _top_k(call: Call) -> Any:
    (count,) = call.numbers(1, "k")
    return torch.topk(
        call.tensor(), count, dim=call.attribute("axis", -1), largest=bool(call.attribute("largest", 1)), sorted=True
    )


def _cumulative_sum(call: Call) -> torch.Tensor:
    if call.attribute("exclusive", 0) or call.attribute("reverse", 0):
        raise call.unsupported("exclusive or reverse is set")
    return torch.cumsum(call.tensor(), int(call.numbers(1, "axis")[0]))


def _where(call: Call) -> torch.Tensor:
    return torch.where(call.tensor(0).bool(), call.tensor(1), call.tensor(2))


def _gelu(call: Call) -> torch.Tensor:
    return F.gelu(call.tensor(), approximate=call.attribute("approximate", "none"))


def _swish(call: Call) -> torch.Tensor:
    alpha = call.attribute("alpha", 1.0)
    return F.silu(call.tensor()) if alpha == 1 else call.tensor() * torch.sigmoid(alpha * call.tensor())


def _identity(call: Call) -> Any:
    """Dropout's mask is never asked for in evaluation mode."""
    return call.tensor()


def _leaky_relu(call: Call) -> torch.Tensor:
    return F.leaky_relu(call.tensor(), call.attribute("alpha", 0.01))


def _celu(call: Call) -> torch.Tensor:
    return F.celu(call.tensor(), call.attribute("alpha", 1.0))


ELEMENTWISE: dict[str, Function] = {
    "Abs": _unary(torch.abs), "Ceil": _unary(torch.ceil), "Cos": _unary(torch.cos), "Erf": _unary(torch.erf), "Exp": _unary(torch.exp),
    "Floor": _unary(torch.floor), "HardSwish": _unary(F.hardswish), "Log": _unary(torch.log), "Mish": _unary(F.mish),
    "Neg": _unary(torch.neg), "Not": _unary(torch.logical_not), "Reciprocal": _unary(torch.reciprocal), "Relu": _unary(F.relu),
    "Round": _unary(torch.round), "Sigmoid": _unary(torch.sigmoid), "Sign": _unary(torch.sign), "Sin": _unary(torch.sin),
    "Softplus": _unary(F.softplus), "Softsign": _unary(F.softsign), "Sqrt": _unary(torch.sqrt), "Tan": _unary(torch.tan),
    "Tanh": _unary(torch.tanh), "Identity": _identity, "Dropout": _identity,
    "Celu": _celu, "Clip": _clip, "Elu": _elu, "Gelu": _gelu, "HardSigmoid": _hard_sigmoid, "LeakyRelu": _leaky_relu, "PRelu": _prelu,
    "Selu": _selu, "Swish": _swish, "ThresholdedRelu": _thresholded_relu,
    "Add": _binary(torch.add), "Div": _binary(_divide), "Mod": _mod, "Mul": _binary(torch.mul), "Pow": _pow, "Sub": _binary(torch.sub),
    "And": _binary(torch.logical_and), "Or": _binary(torch.logical_or), "Xor": _binary(torch.logical_xor),
    "Equal": _binary(torch.eq), "Greater": _binary(torch.gt), "GreaterOrEqual": _binary(torch.ge), "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "Max": _variadic(torch.maximum), "Mean": _mean, "Min": _variadic(torch.minimum), "Sum": _variadic(torch.add),
    "Cast": _cast, "CastLike": lambda call: call.tensor(0).to(call.tensor(1).dtype), "Where": _where,
    "LogSoftmax": _softmax(F.log_softmax), "Softmax": _softmax(F.softmax),
    "ReduceL1": _reduction(lambda x, dims, keep: x.abs().sum(dims, keep)),
    "ReduceL2": _reduction(lambda x, dims, keep: x.square().sum(dims, keep).sqrt()),
    "ReduceLogSumExp": _reduction(torch.logsumexp), "ReduceMax": _reduction(torch.amax), "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin), "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(lambda x, dims, keep: x.sum(dims, keep)),
    "ReduceSumSquare": _reduction(lambda x, dims, keep: x.square().sum(dims, keep)),
    "ArgMax": _arg(torch.argmax), "ArgMin": _arg(torch.argmin), "CumSum": _cumulative_sum, "TopK": _top_k,
}  # fmt: skip
