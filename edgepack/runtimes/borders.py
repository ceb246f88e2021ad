"""What every session does where values come in and go out: names and shapes are checked, real values become codes and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgepack.core.errors import StageError, did_you_mean
from edgepack.core.types import Array, Signature
from edgepack.runtimes.grid import dequantize, quantize


def check_names(path: Path, signatures: Sequence[Signature], inputs: Mapping[str, Array]) -> None:
    """Raise StageError for an input that the model doesn't have, and for one without values."""
    known = [signature.name for signature in signatures]
    for name in inputs:
        if name not in known:
            raise StageError(f"{path}: has no input '{name}'{did_you_mean(name, known)}")
    if missing := [name for name in known if name not in inputs]:
        raise StageError(f"{path}: no values for the input '{missing[0]}'")


def check_inputs(path: Path, signatures: Sequence[Signature], inputs: Mapping[str, Array]) -> int:
    """The number of samples N. Raise StageError for values that don't fit the signatures."""
    check_names(path, signatures, inputs)
    samples = inputs[signatures[0].name].shape[:1]  # () for a value without dimensions, which fits no signature
    for signature in signatures:
        array = inputs[signature.name]
        expected = (*samples, *signature.shape[1:])
        if array.shape != expected or array.dtype != np.dtype(signature.dtype):
            shape = ", ".join(["N", *map(str, signature.shape[1:])])
            raise StageError(
                f"{path}: input '{signature.name}' takes {signature.dtype} of shape ({shape}), the same N for all "
                f"inputs; got {array.dtype} of shape {array.shape}"
            )
    return int(samples[0])


def to_codes(values: Array, signature: Signature) -> Array:
    """Real values as the artifact takes them. Raises DataError for NaN where there is a grid."""
    if signature.quantization is None:
        return values.astype(signature.dtype, copy=False)
    return quantize(values, signature.quantization)


def to_real(values: Array, signature: Signature) -> Array:
    """What the artifact gave, as float32."""
    if signature.quantization is None:
        return values.astype(np.float32, copy=False)
    return dequantize(values, signature.quantization)
