"""Where a model's weights stand in its files, found by their bytes: no reader of any format is needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.core.types import Array


def code_places(codes: Mapping[str, Array], paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """For each weight that a file holds plainly: `file`, `offset` and the `order` of its axes there; `unsigned` where 128 was added to each code."""
    files = [(path.name, path.read_bytes()) for path in paths] if codes else []
    places = ((name, next(_places(weight, files), None)) for name, weight in codes.items())
    return {name: place for name, place in places if place is not None}


def _places(weight: Array, files: list[tuple[str, bytes]]) -> Iterator[dict[str, Any]]:
    for unsigned, order in itertools.product((False, True), _orders(weight.ndim)):
        stored = weight.transpose(order).astype(np.int8).tobytes()
        wanted = (np.frombuffer(stored, np.uint8) ^ 0x80).tobytes() if unsigned else stored
        for name, content in files:
            if (offset := content.find(wanted)) >= 0:
                yield {"file": name, "offset": offset, "order": list(order), **({"unsigned": True} if unsigned else {})}


def _orders(dimensions: int) -> list[tuple[int, ...]]:
    """The likely ones first: as torch has it, channels last, and LiteRT's depthwise convolutions."""
    first = [tuple(range(dimensions)), (0, *range(2, dimensions), 1), (*range(1, dimensions), 0)]
    return list(dict.fromkeys([*first, *itertools.permutations(range(dimensions))]))
