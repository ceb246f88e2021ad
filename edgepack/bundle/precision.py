"""The vocabulary of a manifest's `precision`: WEIGHTS, then `x16` for int16 activations or `-weights` where everything but the weights is float.

`int8` and `int4` alone are weights beside int8 activations; `int4+int8` are some of each.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

Precision = Literal[
    "float32", "float16",
    "int8", "int4", "int4+int8",
    "int8x16", "int4x16", "int4+int8x16",
    "int8-weights", "int4-weights", "int4+int8-weights",
]  # fmt: skip
CodeType = Literal["int8", "int4"]
Activations = Literal["int8", "int16", "float32", "float16"]

_WORDS: dict[tuple[str, str], Precision] = {
    ("int8", "int8"): "int8",
    ("int4", "int8"): "int4",
    ("int4+int8", "int8"): "int4+int8",
    ("int8", "int16"): "int8x16",
    ("int4", "int16"): "int4x16",
    ("int4+int8", "int16"): "int4+int8x16",
    ("int8", "float"): "int8-weights",
    ("int4", "float"): "int4-weights",
    ("int4+int8", "float"): "int4+int8-weights",
}
_SPOKEN: dict[Precision, str] = {
    "int4": "int4 weights, int8 activations",
    "int4+int8": "int4 and int8 weights, int8 activations",
    "int8x16": "int8 weights, int16 activations",
    "int4x16": "int4 weights, int16 activations",
    "int4+int8x16": "int4 and int8 weights, int16 activations",
    "int8-weights": "int8 weights, float activations",
    "int4-weights": "int4 weights, float activations",
    "int4+int8-weights": "int4 and int8 weights, float activations",
}


def precision_of(weights: Collection[CodeType], activations: Activations) -> Precision:
    """The word for a file whose rounded weights have these types; none are a float model's, or one with integer operators but without weights."""
    if activations in ("int8", "int16"):
        return _WORDS["+".join(sorted(set(weights))) or "int8", activations]
    if not weights:
        return "float16" if activations == "float16" else "float32"
    return _WORDS["+".join(sorted(set(weights))), "float"]


def spoken(precision: Precision) -> str:
    """The word in words, for a person: `int4 weights, int8 activations`; one that needs none, such as `int8`, as it is."""
    return _SPOKEN.get(precision, precision)
