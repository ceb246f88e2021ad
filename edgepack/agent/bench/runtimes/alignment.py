"""Which operator of a .tflite file a delegate's kernel belongs to. The delegate numbers and names its kernels itself."""

from __future__ import annotations

from typing import Any

# A word of XNNPACK's name for a kernel, and the operators that such a kernel computes; a later word is looked at only if no earlier fits.
_KERNELS = (
    ("Fully Connected", ("FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL")),
    ("Deconvolution", ("TRANSPOSE_CONV",)),
    ("DWConv", ("DEPTHWISE_CONV_2D",)),
    ("Convolution", ("CONV_2D", "DEPTHWISE_CONV_2D")),
    ("Batch Matrix Multiply", ("BATCH_MATMUL",)),
    ("Constant Pad", ("PAD", "PADV2")),
    ("Reshape", ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")),
    ("Mean", ("MEAN",)),
    ("Sum", ("SUM", "MEAN")),
    ("Add", ("ADD",)),
    ("Subtract", ("SUB",)),
    ("Multiply", ("MUL",)),
    ("Divide", ("DIV",)),
    ("Maximum", ("MAXIMUM",)),
    ("Minimum", ("MINIMUM",)),
    ("Max Pooling", ("MAX_POOL_2D",)),
    ("Average Pooling", ("AVERAGE_POOL_2D", "MEAN")),
    ("Clamp", ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")),
    ("HardSwish", ("HARD_SWISH",)),
    ("Hardswish", ("HARD_SWISH",)),
    ("Leaky ReLU", ("LEAKY_RELU",)),
    ("PReLU", ("PRELU",)),
    ("GELU", ("GELU",)),
    ("Sigmoid", ("LOGISTIC",)),
    ("Tanh", ("TANH",)),
    ("Softmax", ("SOFTMAX",)),
    ("Soft Max", ("SOFTMAX",)),
    ("Transpose", ("TRANSPOSE",)),
    ("Resize Bilinear", ("RESIZE_BILINEAR",)),
    ("Slice", ("SLICE", "STRIDED_SLICE")),
    ("Concat", ("CONCATENATION",)),
    ("Convert", ("QUANTIZE", "DEQUANTIZE")),
)


def aligned(operators: list[tuple[str, str]], kernels: list[tuple[Any, str]]) -> list[tuple[str, str]]:
    """(kind, name) of the operator of each kernel; both lists are in the order of execution.

    An operator is (kind, name of its output). A kernel is (index of its operator, or None for a delegate's; the delegate's name for it). Both
    sequences are matched so that as many kernels as possible find an operator of their kind (a longest common subsequence). What is left, such
    as a clamp after an addition, keeps its own kind and gets the name of the operator before it.
    """
    of = _pairs(operators, kernels)
    found: list[tuple[str, str]] = []
    for position, (_, tag) in enumerate(kernels):
        operator = of.get(position)
        if operator is not None:
            found.append(operators[operator])
        else:
            found.append((tag.replace("Delegate/", ""), found[-1][1] if found else tag))
    return found


def _pairs(operators: list[tuple[str, str]], kernels: list[tuple[Any, str]]) -> dict[int, int]:
    """Position of a kernel → position of its operator."""
    best = [[0] * (len(operators) + 1) for _ in range(len(kernels) + 1)]
    for k in range(len(kernels) - 1, -1, -1):
        for o in range(len(operators) - 1, -1, -1):
            both = best[k + 1][o + 1] + 1 if _fits(kernels[k], o, operators[o][0]) else 0
            best[k][o] = max(both, best[k + 1][o], best[k][o + 1])
    pairs, k, o = {}, 0, 0
    while k < len(kernels) and o < len(operators):
        if _fits(kernels[k], o, operators[o][0]) and best[k][o] == best[k + 1][o + 1] + 1:
            pairs[k] = o
            k, o = k + 1, o + 1
        elif best[k][o] == best[k][o + 1]:
            o += 1
        else:
            k += 1
    return pairs


def _fits(kernel: tuple[Any, str], position: int, kind: str) -> bool:
    index, tag = kernel
    if index is not None:
        return bool(index == position)
    return kind in next((kinds for word, kinds in _KERNELS if word in tag), ())
