"""What is known of one combination of methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What a combination costs and gives: bytes of the model file and of its wire form, accuracy as a share, loss in points.

    `drop_points` is the loss against the original on the same samples. Latency and memory are None unless the budget limits them. `seconds` is what making
    and judging it took this time.
    """

    wire_bytes: int
    file_bytes: int
    accuracy: float
    drop_points: float
    latency_p50_ms: float | None = None
    peak_memory_bytes: int | None = None
    samples: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, item: Mapping[str, Any]) -> Numbers:
        """What `as_dict` wrote."""
        return cls(**item)
