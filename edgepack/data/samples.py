"""Samples that are ready for the model: drawn, preprocessed and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.agent import preprocess as agent
from edgepack.core.errors import DataError, RecipeError
from edgepack.core.types import Array, Samples
from edgepack.data.checks import check_raw, checked_input, checked_labels
from edgepack.data.fingerprint import checked_digest
from edgepack.data.protocol import RawSamples
from edgepack.data.sections import named, open_provider, resolve_section
from edgepack.recipe import DataSection, InputSection, PreprocessStep

Steps = Sequence[PreprocessStep] | Sequence[Mapping[str, Any]]
_CHUNK = 128


def preprocess_file() -> Path:
    """The reference implementation of the preprocessing steps, which a bundle ships."""
    return Path(agent.__file__)


def plain_steps(steps: Steps) -> list[dict[str, Any]]:
    """The preprocessing steps as a bundle stores them. Raises RecipeError for a step that is wrong."""
    plain = [{"op": step.op, **step.options()} if isinstance(step, PreprocessStep) else dict(step) for step in steps]
    try:
        agent.validate_steps(plain)
    except ValueError as exc:
        raise RecipeError(str(exc)) from exc
    return plain


def load_samples(
    section: DataSection | str,
    steps: Steps,
    *,
    folder: Path,
    inputs: tuple[InputSection, ...],
    classes: int | None = None,
    role: str,
    labelled: bool = False,
    first: int | None = None,
) -> Samples:
    """The samples of a data table as float32 arrays (N, *shape) by input name, with int64 labels where there are any.

    `section.count` samples are drawn without replacement by `section.seed` and kept in the provider's order.
    `classes` is the number of classes that labels must stay below; `labelled` says that labels are required;
    of the drawn samples only the `first` ones are read, when given.
    Raises DataError that names the role for samples that are missing, of a wrong shape or type, not finite or
    mislabelled, and RecipeError for a table or a step that is wrong.
    """
    parts = iter_samples(
        section,
        steps,
        folder=folder,
        inputs=inputs,
        classes=classes,
        role=role,
        labelled=labelled,
        first=first,
        chunk=_CHUNK,
    )
    return _joined(list(parts))


def iter_samples(
    section: DataSection | str,
    steps: Steps,
    *,
    folder: Path,
    inputs: tuple[InputSection, ...],
    classes: int | None = None,
    role: str,
    labelled: bool = False,
    first: int | None = None,
    chunk: int | None = None,
) -> Iterator[Samples]:
    """As `load_samples`, `chunk` samples at a time (default: all at once), so that memory does not grow with the data."""
    with named(role):
        table = resolve_section(section, folder=folder)
        provider = open_provider(table, folder=folder)
        if table.sha256 is not None:
            checked_digest(table, provider.files())
        raw = provider.load()
        check_raw(raw)
        labels = checked_labels(raw, classes=classes, required=labelled)
        drawn = _draw(table, len(raw))[:first]
        plain = plain_steps(steps)
        size = chunk or len(drawn)
        for start in range(0, len(drawn), size):
            chosen = drawn[start : start + size]
            names = [raw.describe(index) for index in chosen]
            arrays = _model_inputs(_take(raw, chosen), plain, inputs, names)
            yield Samples(
                inputs={spec.name: checked_input(arrays[spec.name], spec, sample_names=names) for spec in inputs},
                labels=None if labels is None else labels[chosen],
            )


def _joined(parts: list[Samples]) -> Samples:
    """The parts as one, each freed as soon as it is copied, so that memory never holds everything twice."""
    if len(parts) == 1:
        return parts[0]
    total = sum(len(part) for part in parts)
    whole = {name: np.empty((total, *array.shape[1:]), array.dtype) for name, array in parts[0].inputs.items()}
    labels = (
        None if parts[0].labels is None else np.concatenate([part.labels for part in parts if part.labels is not None])
    )
    start = 0
    while parts:
        part = parts.pop(0)
        for name, array in part.inputs.items():
            whole[name][start : start + len(part)] = array
        start += len(part)
    return Samples(inputs=whole, labels=labels)


def _draw(section: DataSection, available: int) -> NDArray[np.intp]:
    if section.count is None:
        return np.arange(available)
    if section.count > available:
        raise DataError(f"count = {section.count}, but there are {available} samples; lower count or leave it out")
    if section.seed < 0:
        raise RecipeError(f"seed = {section.seed}: must not be negative")
    return np.sort(np.random.default_rng(section.seed).permutation(available)[: section.count])


def _take(raw: RawSamples, chosen: NDArray[np.intp]) -> Any:
    if isinstance(raw.samples, dict):
        return {name: array[chosen] for name, array in raw.samples.items()}
    if isinstance(raw.samples, list):
        return [raw.samples[index] for index in chosen]
    return raw.samples[chosen]


def _model_inputs(
    samples: Any, steps: list[dict[str, Any]], inputs: tuple[InputSection, ...], sample_names: list[str]
) -> dict[str, Array]:
    names = [spec.name for spec in inputs]
    if isinstance(samples, dict):
        if sorted(samples) != sorted(names):
            raise DataError(f"the samples are for inputs {sorted(samples)}, the model has {sorted(names)}; rename them")
        if len(names) > 1 and steps:
            raise RecipeError("[[preprocess]] works for models with one input; provide these samples preprocessed")
        if len(names) > 1:
            return samples
        samples = samples[names[0]]
    if len(names) > 1:
        raise DataError(f"the model has inputs {names}; provide one array for each, by name (see docs/data.md)")
    try:
        return {names[0]: agent.preprocess(samples, steps)}
    except agent.SampleError as exc:
        raise DataError(f"{sample_names[exc.index]}: {exc.reason}") from exc
