"""What samples must be before a stage may trust them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepack.core.errors import DataError
from edgepack.core.types import Array
from edgepack.data.protocol import RawSamples
from edgepack.recipe import InputSection


def check_raw(raw: RawSamples) -> None:
    """Raise DataError unless there are samples, of numbers where they are arrays, and as many for each input."""
    arrays = raw.samples if isinstance(raw.samples, dict) else {"samples": raw.samples}
    for name, array in arrays.items():
        if isinstance(array, np.ndarray) and (array.ndim == 0 or array.dtype.kind not in "biuf"):
            raise DataError(
                f"'{name}' is an array of {array.dtype} with shape {array.shape}; "
                "give an array of numbers with one row per sample"
            )
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the inputs have different numbers of samples: {lengths}; give one row per sample to each")
    if len(raw) == 0:
        raise DataError("no samples are left; check the files and the options that choose from them")


def checked_labels(raw: RawSamples, *, classes: int | None, required: bool) -> NDArray[np.int64] | None:
    """The labels as int64, or None where there are none. Raises DataError for labels that can't be right."""
    labels = raw.labels
    if labels is None:
        if required:
            raise DataError('has no labels and needs them; name them in the table, e.g. y = "y" for an .npz file')
        return None
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are {labels.dtype}, class indices are integers; convert them with .astype(int)")
    if labels.shape != (len(raw),):
        raise DataError(
            f"labels have shape {labels.shape} for {len(raw)} samples; one class index per sample is needed"
        )
    wrong = (labels < 0) if classes is None else (labels < 0) | (labels >= classes)
    if np.any(wrong):
        index = int(np.argmax(wrong))
        allowed = "0 or more" if classes is None else f"0…{classes - 1}, as the model has {classes} classes"
        raise DataError(f"label of {raw.describe(index)} is {labels[index]}, must be {allowed}; correct the labels")
    return labels.astype(np.int64)


def checked_input(array: Array, spec: InputSection, *, sample_names: list[str]) -> Array:
    """An input's samples in its type. Raises DataError unless type, shape and values are what the model takes."""
    integer = spec.dtype != "float32"
    if integer and array.dtype.kind not in "iu":
        raise DataError(
            f"input '{spec.name}' needs {spec.dtype} and the samples are {array.dtype}; give integers such as token ids, and leave out [[preprocess]]"
        )
    if not integer and array.dtype.kind != "f":
        raise DataError(
            f"input '{spec.name}' needs float32 and the samples are {array.dtype}; "
            "add a 'to_float' or 'normalize' step to [[preprocess]]"
        )
    if array.shape[1:] != spec.shape:
        raise DataError(
            f"input '{spec.name}' needs shape {spec.shape} and the samples have {array.shape[1:]}; "
            f"{_shape_hint(array.shape[1:], spec.shape)}"
        )
    if integer:
        return _fitting(array, spec, sample_names)
    with np.errstate(over="ignore"):  # what overflows is infinite, and said below
        samples = array.astype(np.float32, copy=False)
    finite = np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
    if not finite.all():
        index = int(np.argmin(finite))
        raise DataError(
            f"input '{spec.name}': {sample_names[index]} holds NaN or infinity "
            f"({int((~finite).sum())} of {len(samples)} do); repair or leave out these samples"
        )
    return samples


def _fitting(array: Array, spec: InputSection, sample_names: list[str]) -> Array:
    """Integers in the input's type, none of which would wrap around."""
    limits = np.iinfo(spec.dtype)
    outside = (array < limits.min) | (array > limits.max)
    if outside.any():
        index = int(np.argmax(outside.reshape(len(array), -1).any(axis=1)))
        raise DataError(
            f"input '{spec.name}': {sample_names[index]} holds {array[outside].flat[0]}, which {spec.dtype} can't; correct the samples"
        )
    return array.astype(spec.dtype, copy=False)


def _shape_hint(given: tuple[int, ...], needed: tuple[int, ...]) -> str:
    if len(given) == 3 and (given[2], *given[:2]) == needed:
        return 'add the step { op = "layout", to = "CHW" } at the end of [[preprocess]]'
    if len(given) == 2 and needed in ((1, *given), (*given, 1)):
        to = "CHW" if needed[0] == 1 else "HWC"
        return f'add the step {{ op = "layout", to = "{to}" }}, which adds the channel axis'
    if len(given) == len(needed) == 3:
        return "add or correct a 'resize' or 'layout' step in [[preprocess]]"
    return "correct model.inputs.shape or the samples"
