"""What an app gets of a model: the facts about its first output and the steps that make an answer of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from edgepack.appkit.steps import check_tensor
from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.bundle.parts import Tensor

_DTYPE_BYTES = {"int8": 1, "uint8": 1, "int16": 2, "float32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOutput:
    """The first output of a model, which `postprocess` is about.

    `score_steps` are the steps before `top_k`, `dequantize` left out where the output is real already; `top_k` has all options written
    out, or is None where no step asks for the best answers.
    """

    tensor: Tensor
    score_steps: tuple[str, ...]
    top_k: Mapping[str, Any] | None

    @property
    def length(self) -> int:
        """Values of one sample."""
        return prod(self.tensor.shape)

    @property
    def row_length(self) -> int:
        """Values on the last axis, which `softmax` is over."""
        return int(self.tensor.shape[-1]) if self.tensor.shape else 1

    @property
    def size_bytes(self) -> int:
        return self.length * _DTYPE_BYTES[self.tensor.dtype]


def app_output(bundle: Bundle, variant: Variant) -> AppOutput:
    """The first output of a variant. Raises UnsupportedError for a type or grid that no kit has code for."""
    tensor = variant.outputs[0]
    check_tensor(f"{bundle.path}: {variant.target}", tensor)
    steps = bundle.manifest.postprocess
    names = [str(step["op"]) for step in steps]
    best = next((dict(step) for step in steps if step["op"] == "top_k"), None)
    is_real = tensor.quantization is None
    return AppOutput(
        tensor=tensor,
        score_steps=tuple(name for name in names if name != "top_k" and not (is_real and name == "dequantize")),
        top_k=None if best is None else {"k": 5, "threshold": 0.0, **best},
    )


def input_bytes(tensor: Tensor) -> int:
    """Size of one sample of an input that `check_tensor` let pass."""
    return prod(tensor.shape) * _DTYPE_BYTES[tensor.dtype]
