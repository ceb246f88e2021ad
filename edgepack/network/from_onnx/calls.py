"""What an operator's function is given: its inputs as tensors or as values that are known while the network is traced, and its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Array
from edgepack.network.from_onnx.graph import Node
from edgepack.network.imported.batch import Choices

# A tensor that depends on the inputs or is a weight; or an array that is known now: integers, shapes (whose batch may be symbolic).
Value = torch.Tensor | Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operation about to be computed."""

    node: Node
    values: tuple[Value | None, ...]
    constants: Mapping[str, Array]
    opset: int
    choices: Choices

    def __len__(self) -> int:
        return len(self.values)

    def has(self, position: int) -> bool:
        """Whether an optional input is given."""
        return position < len(self.values) and self.values[position] is not None

    def tensor(self, position: int = 0) -> torch.Tensor:
        """An input as a tensor."""
        value = self.values[position]
        assert value is not None
        return as_tensor(value)

    def optional(self, position: int) -> torch.Tensor | None:
        """An optional input as a tensor."""
        return self.tensor(position) if self.has(position) else None

    def known(self, position: int) -> Array | None:
        """An input's values where they are known while tracing, a weight's included; None where they depend on the inputs."""
        value = self.values[position] if position < len(self.values) else None
        if isinstance(value, np.ndarray):
            return value
        name = self.node.inputs[position] if position < len(self.node.inputs) else ""
        return self.constants.get(name)

    def needed(self, position: int, what: str) -> Array:
        """As `known`. Raises UnsupportedError where it depends on the network's inputs."""
        value = self.known(position)
        if value is None:
            raise self.unsupported(f"its {what} depends on the inputs' values")
        return value

    def numbers(self, position: int, what: str) -> list[Any]:
        """A list of sizes, which may hold a symbolic batch."""
        return [_plain(item) for item in np.atleast_1d(self.needed(position, what)).tolist()]

    def listed(self, attribute: str, position: int) -> list[int] | None:
        """Integers that older opsets have as an attribute and newer ones as an input; None where neither is given."""
        if attribute in self.node.attributes:
            return [int(item) for item in self.node.attributes[attribute]]
        return self.numbers(position, attribute) if self.has(position) else None

    def scalar(self, position: int) -> float | int | None:
        """The number that an input is, where it is one and known."""
        value = self.known(position)
        return value.reshape(-1)[0].item() if value is not None and value.size == 1 and value.dtype != object else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value."""
        return self.node.attributes.get(name, default)

    def unsupported(self, reason: str) -> UnsupportedError:
        """What to raise for a use of the operator that has no counterpart."""
        return UnsupportedError(
            f"model.file: {self.node.kind} '{self.node.name or self.node.outputs[0]}': {reason}; edgepack can't read that"
        )


def as_tensor(value: Value) -> torch.Tensor:
    """A known array as a constant of the trace."""
    if isinstance(value, torch.Tensor):
        return value
    if value.dtype == object:
        if value.ndim == 0:
            return torch.scalar_tensor(value.item(), dtype=torch.int64)
        return torch.stack([torch.scalar_tensor(item, dtype=torch.int64) for item in value.reshape(-1)]).reshape(
            value.shape
        )
    return torch.from_numpy(np.array(value))


def _plain(item: Any) -> Any:
    return int(item) if isinstance(item, (int, np.integer)) else item
