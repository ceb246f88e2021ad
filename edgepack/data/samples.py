"""Samples that are ready for the model: drawn, preprocessed and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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


def preprocessed(samples: Array, steps: Sequence[Mapping[str, Any]]) -> Array:
    """Raw samples by the reference implementation. Raises ValueError that names the step."""
    found: Array = agent.preprocess(samples, steps)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """Drawn samples that are preprocessed when they are taken, so that memory holds the raw ones only.

    `labels` are int64 of all samples, or None.
    """

    raw: RawSamples
    drawn: NDArray[np.intp]
    steps: list[dict[str, Any]]
    inputs: tuple[InputSection, ...]
    labels: NDArray[np.int64] | None
    role: str

    def __len__(self) -> int:
        return len(self.drawn)

    @property
    def size_bytes(self) -> int:
        """Of all samples preprocessed."""
        return len(self) * sum(np.dtype(spec.dtype).itemsize * int(np.prod(spec.shape)) for spec in self.inputs)

    def take(self, indices: NDArray[np.intp] | slice) -> Samples:
        """The samples at some positions, in that order: arrays (N, *shape) of the input's type by input name.

        Raises DataError for a sample that can't be read, of a wrong shape or type, or not finite.
        """
        with named(self.role):
            chosen = self.drawn[indices]
            names = [self.raw.describe(index) for index in chosen]
            arrays = _model_inputs(_take(self.raw, chosen), self.steps, self.inputs, names)
            return Samples(
                inputs={spec.name: checked_input(arrays[spec.name], spec, sample_names=names) for spec in self.inputs},
                labels=None if self.labels is None else self.labels[indices],
            )

    def raw_arrays(self, count: int) -> Array | None:
        """The first samples as they are before preprocessing, images decoded, (M, …): at most `count`, those before the first of another shape or type.

        None for models of several inputs.
        """
        samples = _take(self.raw, self.drawn[:count])
        if isinstance(samples, dict):
            if len(samples) != 1:
                return None
            (samples,) = samples.values()
        found: list[Array] = []
        for sample in samples:
            array = np.asarray(agent.decode(bytes(sample)) if isinstance(sample, bytes | bytearray) else sample)
            if found and (array.shape, array.dtype) != (found[0].shape, found[0].dtype):
                break
            found.append(array)
        return np.stack(found) if found else None

    def chunks(self, size: int) -> Iterator[Samples]:
        """Consecutive samples, `size` at a time; the last chunk may be smaller."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    def all(self) -> Samples:
        """Every sample, preprocessed."""
        return _joined(list(self.chunks(_CHUNK)))


def open_samples(
    section: DataSection | str,
    steps: Steps,
    *,
    folder: Path,
    inputs: tuple[InputSection, ...],
    classes: int | None = None,
    role: str,
    labelled: bool = False,
    first: int | None = None,
) -> SampleSet:
    """The samples of a data table, read but not yet preprocessed.

    `section.count` samples are drawn without replacement by `section.seed` and kept in the provider's order.
    `classes` is the number of classes that labels must stay below; `labelled` says that labels are required;
    of the drawn samples only the `first` ones are kept, when given.
    Raises DataError that names the role for samples that are missing or mislabelled, and RecipeError for a table or a step that is wrong.
    """
    with named(role):
        table = resolve_section(section, folder=folder)
        provider = open_provider(table, folder=folder)
        if table.sha256 is not None:
            checked_digest(table, provider.files())
        raw = provider.load()
        check_raw(raw)
        labels = checked_labels(raw, classes=classes, required=labelled)
        drawn = _draw(table, len(raw))[:first]
        return SampleSet(
            raw=raw,
            drawn=drawn,
            steps=plain_steps(steps),
            inputs=inputs,
            labels=None if labels is None else labels[drawn],
            role=role,
        )


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
    """As `open_samples`, all preprocessed. Raises what that and `SampleSet.take` raise."""
    opened = open_samples(
        section, steps, folder=folder, inputs=inputs, classes=classes, role=role, labelled=labelled, first=first
    )
    return opened.all()


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
