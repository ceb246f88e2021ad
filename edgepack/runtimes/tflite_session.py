"""A session on a .tflite file, whoever interprets it: LiteRT in this process, or an older runtime in a process of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgepack.core.errors import StageError, UnsupportedError
from edgepack.core.types import Array, QuantParams, Signature
from edgepack.runtimes.borders import check_inputs, check_names, to_codes, to_real
from edgepack.runtimes.grid import dequantize
from edgepack.runtimes.protocol import Execution, Operator

_SHORT = {
    "int8": "i8",
    "uint8": "u8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "float16": "f16",
    "float32": "f32",
}
MAIN_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFacts:
    """A tensor as its interpreter tells it; `name` is the file's own, `dtype` NumPy's."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: QuantParams | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFacts:
    """An operator: builtin name, tensor indices (-1: absent)."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """All that an interpreter tells of a model. `inputs` and `outputs` are tensor indices in the file's order.

    `input_names` and `output_names` are those of the model's signature, as (tensor index, name); empty for a model without one. `operators` has
    none that a delegate added.
    """

    tensors: Mapping[int, TensorFacts]
    operators: tuple[OperatorFacts, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_names: tuple[tuple[int, str], ...]
    output_names: tuple[tuple[int, str], ...]


class Engine(Protocol):
    """An interpreter with a model in it."""

    @property
    def facts(self) -> ModelFacts: ...

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs (N, …) in the file's order for inputs (N, …) in the file's order, one sample after the other. Raises StageError."""

    def tensor(self, index: int) -> Array:
        """A tensor's codes or values after the last run."""


class TfliteSession:
    """A Session on an engine. Not for use by two threads at once.

    Raises UnsupportedError for a model of another batch size than 1.
    """

    def __init__(self, path: Path, engine: Engine, *, keep_tensors: bool) -> None:
        self._path, self._engine, self._keep_tensors = path, engine, keep_tensors
        self._has_run = False
        self._facts = facts = engine.facts
        for index in (*facts.inputs, *facts.outputs):
            _check_batch(path, facts.tensors[index])
        self.inputs = _signatures([facts.tensors[index] for index in facts.inputs], facts.input_names)
        self.outputs = _signatures([facts.tensors[index] for index in facts.outputs], facts.output_names)
        self._tensor_names = _unique_names(facts.tensors)
        self.execution = Execution(device="CPU", types=_execution_types(facts))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See Session.run."""
        check_inputs(self._path, self.inputs, inputs)
        arrays = [np.ascontiguousarray(inputs[signature.name]) for signature in self.inputs]
        outputs = self._engine.run(arrays)
        self._has_run = self._has_run or len(arrays[0]) > 0
        return {signature.name: array for signature, array in zip(self.outputs, outputs, strict=True)}

    def run_float(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See Session.run_float."""
        check_names(self._path, self.inputs, inputs)
        codes = {signature.name: to_codes(inputs[signature.name], signature) for signature in self.inputs}
        outputs = self.run(codes)
        return {signature.name: to_real(outputs[signature.name], signature) for signature in self.outputs}

    def tensors(self) -> dict[str, Array]:
        """See Session.tensors. Of tensors with equal names the first keeps it; the others get '#' and their index."""
        if not self._keep_tensors:
            raise StageError(f"{self._path}: tensors were not kept; open the session with keep_tensors=True")
        if not self._has_run:
            raise StageError(f"{self._path}: no tensors yet; run the session first")
        indices = list(self._facts.inputs)
        indices += [index for operator in self._facts.operators for index in operator.outputs if index >= 0]
        return {self._tensor_names[index]: self._real_tensor(index) for index in dict.fromkeys(indices)}

    def operators(self) -> tuple[Operator, ...]:
        """See Session.operators."""
        return tuple(
            Operator(
                name=operator.name,
                inputs=tuple(self._tensor_names[index] for index in operator.inputs if index >= 0),
                outputs=tuple(self._tensor_names[index] for index in operator.outputs if index >= 0),
            )
            for operator in self._facts.operators
        )

    def _real_tensor(self, index: int) -> Array:
        params = self._facts.tensors[index].quantization
        values = self._engine.tensor(index)
        return values.astype(np.float32) if params is None else dequantize(values, params)


def _check_batch(path: Path, tensor: TensorFacts) -> None:
    if tensor.shape[:1] != (1,):
        raise UnsupportedError(
            f"{path}: '{tensor.name}' has shape {tensor.shape}; only models of batch size 1 are supported"
        )


def _execution_types(facts: ModelFacts) -> dict[str, int]:
    """Operators by the type of their first output: the kernels compute in the type that the file states."""
    counts: dict[str, int] = defaultdict(int)
    for operator in facts.operators:
        counts[_SHORT.get(facts.tensors[operator.outputs[0]].dtype, "other")] += 1
    return dict(sorted(counts.items()))


def _signatures(tensors: Sequence[TensorFacts], names: Sequence[tuple[int, str]]) -> tuple[Signature, ...]:
    # A tensor that is two outputs at once has two names; each use takes the next one.
    left: dict[int, list[str]] = defaultdict(list)
    for index, name in names:
        left[index].append(name)
    return tuple(
        Signature(
            name=left[tensor.index].pop(0) if left[tensor.index] else tensor.name,
            shape=tensor.shape,
            dtype=tensor.dtype,
            quantization=tensor.quantization,
        )
        for tensor in tensors
    )


def _unique_names(tensors: Mapping[int, TensorFacts]) -> dict[int, str]:
    """A name for every tensor index: the file's own where it is the first with that name, else with '#' and the index."""
    taken = {tensor.name for tensor in tensors.values()}
    names: dict[int, str] = {}
    used: set[str] = set()
    for index, tensor in tensors.items():
        name = tensor.name
        if not name or name in used:
            name = f"{name}#{index}"
            while name in taken:
                name += "#"
        used.add(name)
        names[index] = name
    return names
