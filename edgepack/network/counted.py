"""Batches as NNCF wants them: a source that it may walk several times, with a length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


class Counted:
    """`make` starts a walk; `length` is the number of batches in each."""

    def __init__(self, make: Callable[[], Iterator[Any]], length: int) -> None:
        self._make, self._length = make, length

    def __iter__(self) -> Iterator[Any]:
        return self._make()

    def __len__(self) -> int:
        return self._length
