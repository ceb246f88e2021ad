"""Where a model's weights stand in its files, found by their bytes: no reader of any format is needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.core.nibbles import packed
from edgepack.core.types import Array

_LARGEST_INT4 = 7


def code_places(codes: Mapping[str, Array], paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """For each weight that a file holds plainly: `file`, `offset` and the `order` of its axes there; `unsigned` where 128 was added to each code,
    `bits` 4 where a byte holds two."""
    files = [(path.name, path.read_bytes()) for path in paths] if codes else []
    places = ((name, next(_places(weight, files), None)) for name, weight in codes.items())
    return {name: place for name, place in places if place is not None}


def _places(weight: Array, files: list[tuple[str, bytes]]) -> Iterator[dict[str, Any]]:
    narrow: list[dict[str, Any]] = [{"bits": 4}] if np.abs(weight).max(initial=0) <= _LARGEST_INT4 else []
    for form, order in itertools.product((*narrow, {}, {"unsigned": True}), _orders(weight.ndim)):
        wanted = _stored(weight.transpose(order).astype(np.int8), form)
        for name, content in files:
            if (offset := content.find(wanted)) >= 0:
                yield {"file": name, "offset": offset, "order": list(order), **form}


def _stored(codes: Array, form: Mapping[str, Any]) -> bytes:
    if "bits" in form:
        return packed(codes).tobytes()
    plain = codes.tobytes()
    return (np.frombuffer(plain, np.uint8) ^ 0x80).tobytes() if "unsigned" in form else plain


def _orders(dimensions: int) -> list[tuple[int, ...]]:
    """The likely ones first: as torch has it, channels last, and LiteRT's depthwise convolutions."""
    first = [tuple(range(dimensions)), (0, *range(2, dimensions), 1), (*range(1, dimensions), 0)]
    return list(dict.fromkeys([*first, *itertools.permutations(range(dimensions))]))
