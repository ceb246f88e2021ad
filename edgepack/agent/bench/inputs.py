"""The samples that are fed: those given, one after another, or a random one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .errors import AgentError


class Inputs:
    """All samples of a model's inputs; `set` hands the model one of them."""

    def __init__(self, model: Any, spec: dict[str, Any]) -> None:
        self._model, self._details, given = model, model.signature("input"), spec["inputs"]
        if given:
            if set(given) != {detail["name"] for detail in self._details}:
                names = [detail["name"] for detail in self._details]
                raise AgentError("inputs", f"the model's inputs are {names}; files were given for {sorted(given)}")
            self._arrays = [_load_samples(detail, given[detail["name"]]) for detail in self._details]
        else:
            generator = np.random.default_rng(spec["seed"])
            self._arrays = [_random_sample(generator, detail) for detail in self._details]
        self._count = len(self._arrays[0])
        if any(len(values) != self._count for values in self._arrays):
            raise AgentError("inputs", f"the inputs {sorted(given)} have different numbers of samples")

    def set(self, position: int) -> None:
        """Hand the model the sample at this position; after the last one comes the first again."""
        for detail, values in zip(self._details, self._arrays):
            self._model.set(detail, values[position % self._count])

    def write_outputs(self, path: str) -> None:
        """Run every sample once and write each output, stacked along its batch dimension, under its name."""
        details = self._model.signature("output")
        outputs: dict[str, list[Any]] = {detail["name"]: [] for detail in details}
        for position in range(self._count):
            self.set(position)
            self._model.invoke()
            for detail in details:
                outputs[detail["name"]].append(self._model.get(detail))
        stacked: dict[str, Any] = {name: np.concatenate(values) for name, values in outputs.items()}
        with Path(path).open("wb") as file:  # np.savez would add .npz to a name
            np.savez(file, **stacked)


def _load_samples(detail: dict[str, Any], path: str) -> Any:
    try:
        samples = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise AgentError("inputs", f"{path}: can't be read: {exc}") from exc
    shape, dtype = tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"])
    fits = samples.ndim == len(shape) and all(b in (0, a) for a, b in zip(samples.shape[1:], shape[1:]))
    if not fits or samples.dtype != dtype or not len(samples) or shape[0] != 1:
        found = f"{samples.dtype} {samples.shape}"
        raise AgentError("inputs", f"{path}: has {found}; the model takes {dtype} {shape}, one at a time")
    return samples[:, None]


def _random_sample(generator: Any, detail: dict[str, Any]) -> Any:
    """One sample: normal for floats, uniform over all values for 8 bits, else 0 and 1, which fit as indices and flags."""
    shape, dtype = (1, *(int(size) for size in detail["shape"])), np.dtype(detail["dtype"])
    if 0 in shape:
        raise AgentError("inputs", f"input {detail['name']!r} has open dimensions: give samples for it")
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind not in "iub":
        raise AgentError("inputs", f"input {detail['name']!r} has type {dtype}: give samples for it")
    if dtype.kind == "b" or dtype.itemsize > 1:
        return generator.integers(0, 2, shape).astype(dtype)
    return generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
