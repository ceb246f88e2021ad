"""Turns a model's output into an answer by a list of declared steps: the reference that every app must match.

The file stands alone: bundles ship it, so it needs Python 3.9 and NumPy and never imports edgepack. The same bytes and
the same steps give the same bytes on every machine and in every language: each operation is rounded to float64 (or
float32 where said), nothing is fused, and sums run in the order of the indices. docs/bundle-format.md spells it out.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

# exp(x) = 2^n · e^r with r = x − n·ln 2, |r| ≤ 0.35: ln 2 in two parts, the first with so few bits that n·_LN2_HIGH is exact
# (fdlibm, e_exp.c), and the Taylor polynomial of degree 13, whose next term is below 2^-57.
_LOG2_E = 1.4426950408889634
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_COEFFICIENTS = tuple(1.0 / math.factorial(k) for k in range(14))
_EXP_IS_0_BELOW = -708.0  # the smallest exponents of normal float64 numbers, so that no subnormal is ever rounded


# The steps are plain classes and not dataclasses for the reason that preprocess.py gives.
class Dequantize:
    """Turn codes into real values: float32(scale) × float32(code − zero_point), in float32. Real values stay, as float32."""

    def __call__(self, values: Array, output: Mapping[str, Any]) -> Array:
        if values.dtype.kind == "f":
            return values.astype(np.float32)
        grid = output.get("quantization")
        if grid is None:
            raise ValueError(f"the output holds {values.dtype} codes, but its 'quantization' is not known")
        scale, zero_point = np.array(grid["scale"], np.float32), np.array(grid["zero_point"], np.int64)
        axis = grid.get("axis")
        if axis is None:
            scale, zero_point = scale[0], zero_point[0]
        else:  # one grid per slice along that axis, counted with the batch dimension
            around = [1] * values.ndim
            around[axis] = scale.size
            scale, zero_point = scale.reshape(around), zero_point.reshape(around)
        real: Array = scale * (values.astype(np.int64) - zero_point).astype(np.float32)
        return real


class Softmax:
    """Turn real values into shares that add up to 1 over the last axis, as float32: exp(x − max) ÷ their sum, in float64."""

    def __call__(self, values: Array, output: Mapping[str, Any]) -> Array:
        wide = _real(values)
        with np.errstate(invalid="ignore"):  # infinity minus itself is NaN, and the result says so
            powers = exponential(wide - wide.max(axis=-1, keepdims=True))
        total = np.zeros(powers.shape[:-1], np.float64)
        for index in range(powers.shape[-1]):  # in this order: np.sum adds in pairs
            total = total + powers[..., index]
        return (powers / total[..., None]).astype(np.float32)


class Sigmoid:
    """Turn each real value into a share, as float32: 1 ÷ (1 + exp(−x)) for x ≥ 0, else exp(x) ÷ (1 + exp(x)), in float64."""

    def __call__(self, values: Array, output: Mapping[str, Any]) -> Array:
        wide = _real(values)
        power = exponential(-np.abs(wide))
        return (np.where(wide >= 0, 1.0, power) / (1.0 + power)).astype(np.float32)


class TopK:
    """List the `k` largest scores of at least `threshold` as (index, label or None, score), the largest first, of equal ones the lower index.

    Must be the last step. The index counts all values of a sample in C order. NaN is never listed.
    """

    def __init__(self, *, k: int = 5, threshold: float = 0.0) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"'k' must be a positive integer, got {k!r}")
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not math.isfinite(threshold):
            raise ValueError(f"'threshold' must be a number, got {threshold!r}")
        self._k, self._threshold = k, float(threshold)

    def __call__(self, values: Array, output: Mapping[str, Any]) -> list[list[tuple[int, str | None, float]]]:
        labels: Sequence[str] = output.get("labels") or ()
        flat = _real(values).reshape(len(values), -1)
        answers = []
        for scores in flat:
            order = np.argsort(-scores, kind="stable")[: self._k]
            listed = [int(index) for index in order if scores[index] >= self._threshold]
            answers.append([(i, labels[i] if i < len(labels) else None, float(scores[i])) for i in listed])
        return answers


OPS: dict[str, Any] = {"dequantize": Dequantize, "softmax": Softmax, "sigmoid": Sigmoid, "top_k": TopK}


def describe_ops() -> dict[str, str]:
    """What each op does and which options it has, by name."""
    return {name: inspect.cleandoc(op.__doc__) for name, op in OPS.items()}


def validate_steps(steps: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError for the first step that is unknown, of a wrong type or in a wrong place."""
    _parse(steps)


def postprocess(
    values: Array,
    steps: Sequence[Mapping[str, Any]],
    *,
    quantization: Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
) -> Any:
    """The answers to some samples: what the model's first output (N, …) means.

    `values` are as the model file gives them, `quantization` is what the manifest says of that output (`scale`, `zero_point`, `axis`) and
    `labels` are the manifest's. Gives an array (N, …), or, where the last step is top_k, one list per sample. Raises
    ValueError that names the step.
    """
    result: Any = np.asarray(values)
    output = {"quantization": quantization, "labels": labels}
    for where, operation in _parse(steps):
        try:
            result = operation(result, output)
        except ValueError as exc:
            raise ValueError(f"{where}: {exc}") from exc
    return result


def exponential(values: Array) -> Array:
    """e to the power of each float64 value of at most 709, to float64 within one unit in the last place, and the same everywhere; 0 below −708."""
    with np.errstate(invalid="ignore"):
        x = np.where(values < _EXP_IS_0_BELOW, _EXP_IS_0_BELOW, values)
        n = np.floor(x * _LOG2_E + 0.5)
        r = (x - n * _LN2_HIGH) - n * _LN2_LOW
        power = np.full_like(x, _COEFFICIENTS[13])
        for coefficient in reversed(_COEFFICIENTS[:13]):
            power = power * r + coefficient
        whole = np.where(np.isnan(n), 0.0, n).astype(np.int32)
        return np.where(values < _EXP_IS_0_BELOW, 0.0, np.ldexp(power, whole))


def _real(values: Array) -> Array:
    """float64 of real values."""
    if values.dtype.kind != "f":
        raise ValueError(f"works on real values, got {values.dtype} codes; put 'dequantize' before it")
    return values.astype(np.float64)


def _parse(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """Each step's name for messages, and the step ready to be called."""
    if not isinstance(steps, (list, tuple)):
        raise ValueError(f"postprocess: must be a list of steps, got {type(steps).__name__}")
    operations: list[tuple[str, Any]] = []
    for number, step in enumerate(steps, start=1):
        name = _op_of(number, step)
        where = f"postprocess step {number} ({name})"
        _check_order(where, OPS[name], operations)
        options = {key: value for key, value in step.items() if key != "op"}
        known = inspect.signature(OPS[name]).parameters if "__init__" in vars(OPS[name]) else {}
        for option in options:
            if option not in known:
                raise ValueError(
                    f"{where}: unknown option '{option}'{_hint(str(option), known) or ' (it has no options)'}"
                )
        try:
            operations.append((where, OPS[name](**options)))
        except ValueError as exc:
            raise ValueError(f"{where}: {exc}") from exc
    return operations


def _op_of(number: int, step: Any) -> str:
    if not isinstance(step, Mapping) or not isinstance(step.get("op"), str):
        raise ValueError(f"postprocess step {number}: must be a table with a text 'op', got {step!r}")
    name: str = step["op"]
    if name not in OPS:
        raise ValueError(f"postprocess step {number}: unknown op '{name}'{_hint(name, OPS)}")
    return name


def _check_order(where: str, op: Any, earlier: Sequence[tuple[str, Any]]) -> None:
    for place, operation in earlier:
        if isinstance(operation, TopK):
            raise ValueError(f"{where}: stands after {place}, which must be the last step")
        if op is type(operation):
            raise ValueError(f"{where}: stands there twice; leave one out")
        if op is Dequantize:
            raise ValueError(f"{where}: must be the first step")


def _hint(word: str, known: Mapping[str, Any]) -> str:
    for near in difflib.get_close_matches(word, list(known), n=1, cutoff=0.6):
        return f" (did you mean '{near}'?)"
    return f" (known: {', '.join(sorted(known))})" if known else ""
