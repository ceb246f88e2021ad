"""Golden samples: inputs with the outputs that the bundled model gave, so that any device can prove it runs it right."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.lib import format as npy

from edgepack.bundle.archive import Bundle
from edgepack.bundle.manifest import Golden, Tensor, Variant
from edgepack.bundle.parts import LENGTH_MAX
from edgepack.core.errors import BundleError
from edgepack.core.types import Array

_DIMENSIONS_MAX = 17  # those of a tensor and the samples
_KINDS = "biuf"  # bool, signed, unsigned, float: what every language can read without pickle
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<descr>\|[biu]1|<[iu][248]|<f[248])', 'fortran_order': False, "
    rb"'shape': \((?P<shape>|{size},|{size}(?:, {size})+)\), \} *\n".replace(b"{size}", rb"(?:0|[1-9][0-9]{0,9})"),
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSamples:
    """Arrays of shape (samples, …) and of the model file's dtypes, by input and output name."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenResult:
    """How one output compares: its largest difference, in steps of the output's grid (inf for NaN)."""

    output: str
    largest_steps: float
    tolerance_steps: float
    values: int
    differing: int

    @property
    def passed(self) -> bool:
        return self.largest_steps <= self.tolerance_steps


def to_npy(array: Array) -> bytes:
    """An array as a `.npy` file, version 1.0, C order, little-endian; equal arrays give equal bytes.

    Raises BundleError for a dtype other than bool, integers and floats of up to 64 bits.
    """
    if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8:
        raise BundleError(f"golden samples can't hold the dtype {array.dtype}; use integers, floats or bool")
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).reshape(array.shape)
    file = io.BytesIO()
    npy.write_array(file, little, version=(1, 0), allow_pickle=False)
    return file.getvalue()


def from_npy(data: bytes, *, name: str = "array") -> Array:
    """The array in a `.npy` file as `to_npy` writes it. Raises BundleError for anything else; never unpickles.

    The header is matched, not evaluated as NumPy's own reader does: a damaged one can raise nearly anything there.
    """
    found = _HEADER.match(data)
    if found is None or found.end() != 10 + int.from_bytes(data[8:10], "little"):
        raise BundleError(f"{name}: not a .npy file of version 1.0, in C order, of bool, integers or floats")
    dtype = np.dtype(found["descr"].decode())
    shape = tuple(int(size) for size in found["shape"].split(b",") if size.strip())
    if len(shape) > _DIMENSIONS_MAX or max(shape, default=0) > LENGTH_MAX:
        raise BundleError(f"{name}: has {len(shape)} dimensions, or one that is longer than any tensor's")
    if prod(shape) * dtype.itemsize != len(data) - found.end():
        raise BundleError(
            f"{name}: holds {len(data) - found.end()} bytes of data, which is not {dtype} of shape {shape}"
        )
    try:
        return np.frombuffer(data, dtype=dtype, offset=found.end()).reshape(shape)
    except ValueError as exc:  # no values, and yet more of them than NumPy can count
        raise BundleError(f"{name}: {dtype} of shape {shape} is no array") from exc


def read_golden(bundle: Bundle, variant: Variant | None = None) -> GoldenSamples:
    """The golden samples of a variant (None: the only one). Raises BundleError when it has none, or some that don't fit its signature."""
    chosen = variant or bundle.variant()
    golden = _golden_of(bundle, chosen)
    return GoldenSamples(
        inputs={
            tensor.name: _read_array(bundle, name, tensor, golden.samples)
            for name, tensor in zip(golden.inputs, chosen.inputs, strict=True)
        },
        outputs={
            tensor.name: _read_array(bundle, name, tensor, golden.samples)
            for name, tensor in zip(golden.outputs, chosen.outputs, strict=True)
        },
    )


def read_raw(bundle: Bundle, variant: Variant | None = None) -> Array | None:
    """The first golden samples before preprocessing, (raw_samples, …); None where the bundle has none.

    `preprocess` of `read_raw(bundle)[i]`, quantized, has the bytes of the first golden input's sample i. Raises BundleError.
    """
    golden = _golden_of(bundle, variant or bundle.variant())
    if golden.raw is None:
        return None
    array = from_npy(bundle.read(golden.raw), name=f"{bundle.path}: {golden.raw}")
    if array.shape[:1] != (golden.raw_samples,):
        raise BundleError(
            f"{bundle.path}: {golden.raw} has shape {array.shape}, but the manifest says {golden.raw_samples} samples"
        )
    return array


def check_golden(
    bundle: Bundle, outputs: Mapping[str, Array], variant: Variant | None = None
) -> tuple[GoldenResult, ...]:
    """Compare what a device gave for the golden inputs with what a variant (None: the only one) expects, one result per output.

    `outputs` has arrays of shape (samples, …) in the model file's own dtypes. Raises BundleError where an output is
    missing or has another shape or dtype.
    """
    chosen = variant or bundle.variant()
    golden = _golden_of(bundle, chosen)
    expected = read_golden(bundle, chosen).outputs
    steps = golden.output_steps or (None,) * len(chosen.outputs)
    results = []
    for tensor, step in zip(chosen.outputs, steps, strict=True):
        if tensor.name not in outputs:
            raise BundleError(
                f"{bundle.path}: output '{tensor.name}' was not given; there are {', '.join(outputs) or 'none'}"
            )
        results.append(
            compare(
                expected[tensor.name],
                outputs[tensor.name],
                output=tensor.name,
                tolerance_steps=golden.tolerance_steps,
                step=step,
            )
        )
    return tuple(results)


def compare(
    expected: Array, actual: Array, *, output: str, tolerance_steps: float, step: float | None = None
) -> GoldenResult:
    """The largest difference of two arrays in steps.

    Integers are codes and one code is one step. Of floats, `step` is one step in real units; by default it is that of
    a grid of 256 codes over the expected values and 0, as an int8 tensor with these values would have.
    Raises BundleError when shape or dtype differ.
    """
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        raise BundleError(
            f"output '{output}': expected {expected.dtype} of shape {expected.shape}, got {actual.dtype} of shape {actual.shape}"
        )
    if expected.dtype.kind != "f":
        step = 1.0
    elif step is None:
        step = float_step(expected)
    wide_expected, wide_actual = expected.astype(np.float64), actual.astype(np.float64)
    # Equal infinities differ by 0, which their difference (NaN) does not say.
    differs = wide_expected != wide_actual
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(differs, np.abs(wide_actual - wide_expected) / step, 0.0)
    steps[np.isnan(steps)] = np.inf
    return GoldenResult(
        output=output,
        largest_steps=float(steps.max(initial=0.0)),
        tolerance_steps=tolerance_steps,
        values=int(steps.size),
        differing=int(np.count_nonzero(differs)),
    )


def float_step(expected: Array) -> np.float64:
    """One step of a grid of 256 codes over some float values and 0, in their unit; 0 when all values are 0."""
    wide = expected.astype(np.float64)
    return np.float64((wide.max(initial=0.0) - wide.min(initial=0.0)) / 255)


def _golden_of(bundle: Bundle, variant: Variant) -> Golden:
    if variant.golden is None:
        raise BundleError(f"{bundle.path}: has no golden samples, so there is nothing to compare with")
    return variant.golden


def _read_array(bundle: Bundle, name: str, tensor: Tensor, samples: int) -> Array:
    array = from_npy(bundle.read(name), name=f"{bundle.path}: {name}")
    expected = (samples, *tensor.shape[1:])
    if array.shape != expected or array.dtype != np.dtype(tensor.dtype):
        raise BundleError(
            f"{bundle.path}: {name} holds {array.dtype} of shape {array.shape}, but '{tensor.name}' of {samples} samples is "
            f"{tensor.dtype} of shape {expected}"
        )
    return array
