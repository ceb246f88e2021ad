"""Records as the database keeps them, and back: nouns as JSON, numbers as compressed arrays."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from edgepack.records import AgentReport

T = TypeVar("T")

CODEC = "zlib"
_LEVEL = 1  # samples are noise in their low bytes: a higher level takes 3 times as long for 2 % less
_DTYPES = ("<u2", "<u4", "<i8")
# Kept in tables of their own.
_APART = frozenset({"warmup_ns", "samples_ns", "environment", "before", "during", "after", "profile"})

Fields = dict[str, Any]
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


class UnreadableError(Exception):
    """What a row holds is not what was written there."""


def to_fields(value: Any) -> Fields:
    """A record as JSON-able fields; None for a number that JSON has no word for."""
    text = to_json(value)
    fields: Fields = json.loads(text, parse_constant=lambda _: None)
    return fields


def to_json(value: Any) -> str:
    """A record with sorted keys; equal records have equal texts. NaN and infinity, which a sensor may say, stay as Python's json spells them."""
    return _text(_adapter(type(value)).dump_python(value, mode="json"))


def from_json(kind: type[T], text: str) -> T:
    """The record that `to_json` wrote; fields that this edgepack doesn't know are left out, new ones get their default. Raises UnreadableError."""
    with _readable(kind.__name__):
        read: T = _adapter(kind).validate_json(text)
    return read


def report_to_json(report: AgentReport) -> str:
    """What is left of a report beside the parts that have their own tables."""
    return _text(_adapter(AgentReport).dump_python(report, mode="json", exclude=set(_APART)))


def report_from_json(text: str, **parts: Any) -> AgentReport:
    """A report of its JSON and of the parts that have their own tables. Raises UnreadableError."""
    with _readable("AgentReport"):
        read: AgentReport = _adapter(AgentReport).validate_python({**json.loads(text), **parts})
    return read


def packed(numbers: Sequence[int]) -> Fields:
    """Whole numbers as the columns dtype, codec, count and data; the narrowest of three types that holds them all."""
    array = np.asarray(numbers, dtype=np.int64)
    dtype = _DTYPES[-1] if array.size and array.min() < 0 else _narrowest(int(array.max(initial=0)))
    data = zlib.compress(array.astype(dtype).tobytes(), _LEVEL)
    return {"dtype": dtype, "codec": CODEC, "count": len(numbers), "data": data}


def unpacked(*, dtype: str, codec: str, count: int, data: bytes) -> NDArray[np.int64]:
    """The numbers that `packed` kept. Raises UnreadableError where the bytes are not what the columns say."""
    if codec != CODEC:
        raise UnreadableError(f"samples are packed by '{codec}', which this edgepack doesn't know: update edgepack")
    with _readable("samples"):
        array = np.frombuffer(zlib.decompress(data), dtype=dtype)
    if len(array) != count:
        raise UnreadableError(f"{len(array)} samples where {count} were kept")
    return array.astype(np.int64)


def packed_answers(correct: Sequence[bool]) -> Fields:
    """Right or wrong for each sample as the columns codec, count and correct."""
    return {"codec": CODEC, "count": len(correct), "correct": zlib.compress(bytes(correct), 6)}


def unpacked_answers(data: bytes) -> tuple[bool, ...]:
    """What `packed_answers` kept. Raises UnreadableError."""
    with _readable("answers"):
        return tuple(map(bool, zlib.decompress(data)))


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except (ValidationError, ValueError, TypeError, zlib.error) as exc:
        raise UnreadableError(f"{what}: {str(exc).splitlines()[0]}") from exc


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _narrowest(largest: int) -> str:
    return next(name for name in _DTYPES if largest <= np.iinfo(name).max)


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
